"""
The researcher: find the sentences that answer one sub-question, or that none does.
"""

from activities.evidence import gather
from activities.handover import Citation, Index, Part, Research
from outlast import Run, agent
from outlast.store.database import shared


class Order(Part):
    needs: dict[str, Index]


@agent("researcher", version=1)
async def researcher(order: Order, run: Run) -> Research:
    """
    Look *question* up in the library that the librarian made.
    """
    run.say(f"looking up: {order.question}")
    (index,) = order.needs.values()
    store = shared()
    found = await store.run(gather, store, index.library, order.question, order.context)
    return Research(
        question=order.question,
        answered=found.answered,
        findings=[Citation(**vars(each)) for each in found.findings],
        missing=list(found.missing),
    )
