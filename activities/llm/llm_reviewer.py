"""
A reviewer with a model: after every quotation was looked up, it judges whether texts
say what their quotations say. It can only take away.
"""

from pydantic import BaseModel

from outlast import Context, Redo
from outlast.crew.crew_models import Paragraph, Review
from outlast.crew.llm.prompt import Prompt, QuotedText, ask_model, register_for_models
from outlast.crew.reviewer import ReviewerInput, VerifiedDraft, reviewed, verify

REVIEWER_INSTRUCTIONS = """
You check numbered texts against the quotations below each. Name the numbers of those
texts that say anything which their quotations do not say. If all of them are supported,
name none.
"""


class ReviewJudgement(BaseModel):
    """
    The numbers of the texts that say more than their quotations.
    """

    unsupported: list[int]


async def judge_draft(order: ReviewerInput, ctx: Context) -> Review | Redo:
    """
    Verify the draft against the documents, then its texts against its quotations.
    """
    found = await verify(order, ctx)
    texts = dict(enumerate(_texts(found), 1))
    if not texts:
        return reviewed(found)
    fence = QuotedText.of(ctx)
    asked = "\n\n".join(_shown(at, each, fence) for at, each in texts.items())
    judged = await ask_model(
        Prompt(fence.instruct(REVIEWER_INSTRUCTIONS), asked, ReviewJudgement), ctx
    )
    kept = [each for at, each in texts.items() if at not in judged.unsupported]
    review = reviewed(found, [each.text for each in kept])
    return _with_reason(found, review, len(texts) - len(kept))


def _texts(found: VerifiedDraft) -> list[Paragraph]:
    return [
        each
        for each in found.draft.paragraphs
        if each.text and all(quote in found.verified for quote in each.quotations)
    ]


def _shown(at: int, paragraph: Paragraph, fence: QuotedText) -> str:
    quotations = [fence.quote(each.quote, each.place) for each in paragraph.quotations]
    # The text is a model's, made of documents: it is no more to be obeyed than they.
    return "\n".join(
        [f"Text {at}:", fence.quote(paragraph.text, "the draft"), *quotations]
    )


def _with_reason(
    found: VerifiedDraft, review: Review | Redo, unsupported: int
) -> Review | Redo:
    """
    Say how many texts were left out, with what else is lacking: the writer may do
    better, and what stands is the answer when it does not.
    """
    if not unsupported:
        return review
    reason = f"{unsupported} texts said more than their quotations and were left out"
    if isinstance(review, Redo):
        return review.model_copy(update={"reason": f"{review.reason}; {reason}"})
    return Redo.of(found.writing, reason, review)


register_for_models("reviewer", judge_draft)
