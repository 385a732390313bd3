"""
A writer with a model: it says in its own words what the quotations say, and of which.
"""

import re
from typing import Annotated

from pydantic import BaseModel, Field

from outlast import Context, Degraded
from outlast.crew.crew_models import Draft, Paragraph
from outlast.crew.llm.prompt import Prompt, QuotedText, ask_model, register_for_models
from outlast.crew.writer import WriterInput, drafted, quoted

WRITER_INSTRUCTIONS = """
You answer questions from numbered quotations. For each numbered question write one
paragraph of one to three plain sentences that says what its quotations say, and name
the numbers of those that you have used. Say nothing that they do not say.
"""

_MARK = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")


class AnswerText(BaseModel):
    """
    One paragraph: the number of its question, and of the quotations it is made of.
    """

    question: int
    text: Annotated[str, Field(min_length=1, max_length=1500)]
    quotations: list[int] = Field(min_length=1)


class WrittenAnswer(BaseModel):
    """
    One paragraph for each question.
    """

    paragraphs: list[AnswerText]


async def write_answer(order: WriterInput, ctx: Context) -> Draft | Degraded:
    """
    Have the model write on what was found; where nothing was, there is nothing to say.
    """
    paragraphs = quoted(order)
    numbered = {at: each for at, each in enumerate(paragraphs, 1) if each.quotations}
    if not numbered:
        return drafted(order, paragraphs)
    fence = QuotedText.of(ctx)
    instructions = fence.instruct(WRITER_INSTRUCTIONS)
    asked = "\n\n".join(_shown(at, each, fence) for at, each in numbered.items())
    if ctx.redo_reason:
        asked += f"\n\nAn earlier text of yours was rejected: {ctx.redo_reason}"
    written = await ask_model(
        Prompt(instructions, asked, WrittenAnswer, check=lambda w: _wrong(w, numbered)),
        ctx,
    )
    said = {each.question: each for each in written.paragraphs}
    texts = [_with(each, said.get(at)) for at, each in enumerate(paragraphs, 1)]
    return drafted(order, texts)


def _shown(at: int, paragraph: Paragraph, fence: QuotedText) -> str:
    quotations = [
        f"Quotation {number}:\n{fence.quote(each.quote, each.place)}"
        for number, each in enumerate(paragraph.quotations, 1)
    ]
    return "\n".join([f"Question {at}: {paragraph.question}", *quotations])


def _wrong(written: WrittenAnswer, numbered: dict[int, Paragraph]) -> str | None:
    for each in written.paragraphs:
        if each.question not in numbered:
            return f"there is no question {each.question}"
        most = len(numbered[each.question].quotations)
        if not all(1 <= number <= most for number in each.quotations):
            return f"question {each.question} has quotations 1 to {most}"
    return None


def _with(paragraph: Paragraph, said: AnswerText | None) -> Paragraph:
    """
    *paragraph* as the model has put it, with the quotations that it has used.
    """
    if said is None:
        return paragraph
    used = [paragraph.quotations[at - 1] for at in dict.fromkeys(said.quotations)]
    # Marks are ours: one that the model has written would point anywhere.
    text = " ".join(_MARK.sub("", said.text).split())
    return paragraph.model_copy(update={"quotations": used, "text": text})


register_for_models("writer", write_answer)
