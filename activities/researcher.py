"""
The researcher: find the sentences that answer one sub-question, or that none does.
"""

from outlast import Context, GiveUp, agent
from outlast.crew.crew_models import Citation, Index, Part, Research
from outlast.crew.extractive.evidence import gather
from outlast.store.database import Store, shared


class Order(Part):
    needs: dict[str, Index]


@agent("researcher", version=1)
async def researcher(order: Order, ctx: Context) -> Research:
    """
    Look the sub-question up in the library that the librarian made.
    """
    library = library_of(order)
    ctx.emit(f"looking up: {order.question}")
    store = shared()
    return await store.run(research, store, library, order)


def library_of(order: Order) -> str:
    """
    The library that the librarian has made.

    :raises GiveUp: when there is none.
    """
    if not order.needs:
        raise GiveUp("there is no index to look anything up in")
    (index,) = order.needs.values()
    return index.library


def research(store: Store, library: str, part: Part) -> Research:
    """
    What the documents of *library* say to *part*.
    """
    found = gather(store, library, part.question, part.context)
    return Research(
        question=part.question,
        answered=found.answered,
        findings=[Citation(**vars(each)) for each in found.findings],
        missing=list(found.missing),
    )
