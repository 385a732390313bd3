"""
The planner: split a question into what can be looked up, and say who does what.
"""

from pydantic import JsonValue

from outlast import Context, FollowUps, Task, agent
from outlast.crew.crew_models import (
    DocumentSource,
    LibraryIndex,
    QuestionPlan,
    SubQuestion,
)
from outlast.crew.extractive.question_splitting import split_question
from outlast.crew.output_path import OutputPath


class PlannerInput(DocumentSource):
    question: str
    reports: OutputPath | None = None
    mission: str
    needs: dict[str, LibraryIndex]


@agent("planner", version=1)
async def planner(order: PlannerInput, ctx: Context) -> FollowUps:
    """
    Plan one research task for each part of the question, and what follows them.
    """
    parts = split_question(order.question)
    ctx.emit(f"{len(parts)} to look up")
    return planned(order, parts)


def planned(order: PlannerInput, parts: list[SubQuestion]) -> FollowUps:
    """
    The tasks that look into *parts* and finish the answer; who does them and where the
    report goes is no matter of what was asked.
    """
    named = {f"research-{at}": part for at, part in enumerate(parts, 1)}
    plan = QuestionPlan(parts=named)
    return FollowUps.of(plan, [*_research(order, plan), *_finish(order, plan)])


def _research(order: PlannerInput, plan: QuestionPlan) -> list[Task]:
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


def _finish(order: PlannerInput, plan: QuestionPlan) -> list[Task]:
    index = list(order.needs)
    draft = {"question": order.question, "parts": plan.model_dump()["parts"]}
    report: dict[str, JsonValue] = {"mission": order.mission}
    if order.reports is not None:
        report["reports"] = str(order.reports)
    source = order.model_dump(
        mode="json", include={"documents", "library"}, exclude_none=True
    )
    return [
        Task(id="write", role="writer", input=draft, needs=list(plan.parts)),
        Task(id="review", role="reviewer", input=source, needs=["write"]),
        Task(id="publish", role="publisher", input=report, needs=["review", *index]),
    ]
