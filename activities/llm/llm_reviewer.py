"""
A reviewer that thinks: after every quotation was looked up, it judges whether the texts
say what their quotations say. It can only take away.
"""

from pydantic import BaseModel

from outlast import Context, Redo
from outlast.crew.crew_models import Paragraph, Review
from outlast.crew.llm.prompt import Fence, Thought, before, think
from outlast.crew.reviewer import Order, Verified, reviewed, verify

INSTRUCTIONS = """
You check numbered texts against the quotations below each. Name the numbers of those
texts that say anything which their quotations do not say. If all of them are supported,
name none.
"""


class Judged(BaseModel):
    """
    The numbers of the texts that say more than their quotations.
    """

    unsupported: list[int]


async def judge(order: Order, ctx: Context) -> Review | Redo:
    """
    Verify the draft against the documents, then its texts against its quotations.
    """
    found = await verify(order, ctx)
    texts = dict(enumerate(_texts(found), 1))
    if not texts:
        return reviewed(found)
    fence = Fence.of(ctx)
    asked = "\n\n".join(_shown(at, each, fence) for at, each in texts.items())
    judged = await think(Thought(f"{INSTRUCTIONS}\n{fence.rule}", asked, Judged), ctx)
    kept = [each for at, each in texts.items() if at not in judged.unsupported]
    review = reviewed(found, [each.text for each in kept])
    return _told(found, review, len(texts) - len(kept))


def _texts(found: Verified) -> list[Paragraph]:
    """
    The paragraphs whose text may stand, as all of their quotations do.
    """
    return [
        each
        for each in found.draft.paragraphs
        if each.text and all(quote in found.standing for quote in each.quotations)
    ]


def _shown(at: int, paragraph: Paragraph, fence: Fence) -> str:
    quotations = [fence.around(each.quote, each.place) for each in paragraph.quotations]
    # The text is a model's, made of documents: it is no more to be obeyed than they.
    return "\n".join(
        [f"Text {at}:", fence.around(paragraph.text, "the draft"), *quotations]
    )


def _told(found: Verified, review: Review | Redo, unsupported: int) -> Review | Redo:
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


before("reviewer", judge)
