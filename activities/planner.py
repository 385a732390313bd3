"""
The planner: split a question into what can be looked up, and say who does what.
"""

from pydantic import BaseModel

from activities.answering.handover import Index, Plan
from activities.answering.splitting import split
from outlast import FollowUps, Run, Task, agent


class Order(BaseModel):
    question: str
    documents: str
    reports: str
    mission: str
    needs: dict[str, Index]


@agent("planner", version=1)
async def planner(order: Order, run: Run) -> FollowUps:
    """
    Plan one research task for each part of the question, and what follows them.
    """
    parts = {f"research-{at}": part for at, part in enumerate(split(order.question), 1)}
    run.say(f"{len(parts)} to look up")
    plan = Plan(parts=parts)
    return FollowUps.of(plan, [*_research(order, plan), *_finish(order, plan)])


def _research(order: Order, plan: Plan) -> list[Task]:
    """
    The research tasks; one of several may fail, and the answer then says so.
    """
    return [
        Task(
            id=name,
            role="researcher",
            input=part.model_dump(),
            needs=list(order.needs),
            required=len(plan.parts) == 1,
        )
        for name, part in plan.parts.items()
    ]


def _finish(order: Order, plan: Plan) -> list[Task]:
    index = list(order.needs)
    draft = {"question": order.question, "parts": plan.model_dump()["parts"]}
    report = {"reports": order.reports, "mission": order.mission}
    documents = {"documents": order.documents}
    return [
        Task(id="write", role="writer", input=draft, needs=list(plan.parts)),
        Task(id="review", role="reviewer", input=documents, needs=["write"]),
        Task(id="publish", role="publisher", input=report, needs=["review", *index]),
    ]
