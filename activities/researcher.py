"""
The researcher: find the sentences that answer one sub-question, or that none does.
"""

from outlast import Context, GiveUp, agent
from outlast.crew.crew_models import Citation, LibraryIndex, Research, SubQuestion
from outlast.crew.extractive.evidence import find_evidence
from outlast.store.database import Store


class ResearcherInput(SubQuestion):
    needs: dict[str, LibraryIndex]


@agent("researcher", version=1)
async def researcher(order: ResearcherInput, ctx: Context) -> Research:
    """
    Look the sub-question up in the library that the librarian made.
    """
    library = library_of(order)
    ctx.emit(f"looking up: {order.question}")
    return await ctx.store.run(research, ctx.store, library, order)


def library_of(order: ResearcherInput) -> str:
    """
    The library that the librarian has made.

    :raises GiveUp: when there is none.
    """
    if not order.needs:
        raise GiveUp("there is no index to look anything up in")
    (index,) = order.needs.values()
    return index.library


def research(store: Store, library: str, part: SubQuestion) -> Research:
    found = find_evidence(store, library, part.question, part.context)
    return Research(
        question=part.question,
        answered=found.answered,
        findings=[Citation(**vars(each)) for each in found.findings],
        missing=list(found.missing),
    )
