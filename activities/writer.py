"""
The writer: compose the answer from what was found, and say what was not.
"""

from pydantic import BaseModel

from outlast import Context, Degraded, agent
from outlast.crew.crew_models import Draft, Paragraph, Research, SubQuestion, compose

NO_ANSWER_TEXT = "The documents do not answer this"


class WriterInput(BaseModel):
    question: str
    parts: dict[str, SubQuestion]
    needs: dict[str, Research]


@agent("writer", version=1)
async def writer(order: WriterInput, ctx: Context) -> Draft | Degraded:
    """
    Write a paragraph for each part of the question.
    """
    paragraphs = quoted(order)
    ctx.emit(f"{len(paragraphs)} paragraphs")
    return drafted(order, paragraphs)


def quoted(order: WriterInput) -> list[Paragraph]:
    return [
        _paragraph(part, order.needs.get(name)) for name, part in order.parts.items()
    ]


def drafted(order: WriterInput, paragraphs: list[Paragraph]) -> Draft | Degraded:
    """
    The draft of *paragraphs*; one note if no part has an answer, and degraded if a
    part was lost.
    """
    if not any(each.quotations for each in paragraphs) and order.needs:
        paragraphs = [_no_answer(order)]
    answer, _ = compose(paragraphs)
    draft = Draft(question=order.question, paragraphs=paragraphs, answer=answer)
    lost = [
        part.question for name, part in order.parts.items() if name not in order.needs
    ]
    return Degraded(draft, f"not looked up: {'; '.join(lost)}") if lost else draft


def _paragraph(part: SubQuestion, research: Research | None) -> Paragraph:
    if research is None:
        note = f"This could not be looked up: {part.question}"
        return Paragraph(question=part.question, note=note)
    if not research.answered:
        return Paragraph(
            question=part.question, note=f"{NO_ANSWER_TEXT}: {part.question}"
        )
    return Paragraph(question=part.question, quotations=research.findings)


def _no_answer(order: WriterInput) -> Paragraph:
    """
    The one paragraph when no part has an answer, with the words that were not found.
    """
    missing = [word for each in order.needs.values() for word in each.missing]
    words = ", ".join(dict.fromkeys(missing))
    searched = f" The nearest passage does not speak of: {words}." if words else ""
    return Paragraph(question=order.question, note=f"{NO_ANSWER_TEXT}.{searched}")
