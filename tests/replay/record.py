"""
Record histories of missions, one for each path that a mission can take.

    python tests/replay/record.py        (against a development server of its own)

Run it for a release and keep what it writes; what is there already stays as it is.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "integration")]

from keep import FULL, keep, kept  # noqa: E402
from small_crew import Crew, ended, task  # noqa: E402
from temporalio import activity  # noqa: E402
from temporalio.client import WorkflowHandle  # noqa: E402
from temporalio.common import SearchAttributePair, TypedSearchAttributes  # noqa: E402
from temporalio.exceptions import ApplicationError  # noqa: E402
from test_supervisor import for_ever, hopeless, ill, well  # noqa: E402

from outlast import Context, FanOut, FollowUps, Policy, Redo  # noqa: E402
from outlast.contracts.approvals import Approval  # noqa: E402
from outlast.contracts.attempts import AttemptInput, Checkpoint  # noqa: E402
from outlast.contracts.errors import ParkedError  # noqa: E402
from outlast.contracts.failure_details import FailureDetails  # noqa: E402
from outlast.contracts.failures import Detector, FailureType  # noqa: E402
from outlast.contracts.ids import AttemptId  # noqa: E402
from outlast.contracts.missions import Mission  # noqa: E402
from outlast.contracts.progress import MissionProgress  # noqa: E402
from outlast.contracts.quarantine import UNSEEN_DEATH, Death  # noqa: E402
from outlast.contracts.reports import Report  # noqa: E402
from outlast.contracts.results import ResultRef  # noqa: E402
from outlast.contracts.tasks import Budget, Limits  # noqa: E402
from outlast.contracts.updates import DecisionInput, UnservedTasks  # noqa: E402
from outlast.dev.ports import choose_ports  # noqa: E402
from outlast.dev.server import DevServer  # noqa: E402
from outlast.execution.worker_context import WorkerContext  # noqa: E402
from outlast.fleet.workers import AgentWorkers  # noqa: E402
from outlast.ledger.ledger import Ledger  # noqa: E402
from outlast.settings import Settings  # noqa: E402
from outlast.store.database import Store  # noqa: E402
from outlast.temporal.connect import connect  # noqa: E402
from outlast.temporal.missions import STATUS_ATTRIBUTE, TENANT_ATTRIBUTE  # noqa: E402
from outlast.workflows import renewal  # noqa: E402

Handle = WorkflowHandle[object, Report]

INNER: dict[str, Any] = {"goal": "a part", "tasks": [{"id": "a", "role": "well"}]}

TAGGED = TypedSearchAttributes(
    [
        SearchAttributePair(STATUS_ATTRIBUTE, "running"),
        SearchAttributePair(TENANT_ATTRIBUTE, "default"),
    ]
)


async def plan(given: dict[str, object], ctx: Context) -> FollowUps:
    more = [task("more", "well"), task("last", "well", needs=["more"])]
    return FollowUps(result="planned", tasks=more)


async def unsure(given: dict[str, object], ctx: Context) -> None:
    raise ParkedError("did it happen?")


async def spread(given: dict[str, object], ctx: Context) -> FanOut:
    return FanOut(role="well", items=[{"n": n} for n in range(3)])


async def judge(given: dict[str, object], ctx: Context) -> Redo | str:
    return Redo(task="a", reason="poor") if ctx.round == 1 else "good"


async def picky(given: dict[str, object], ctx: Context) -> Redo | str:
    return Redo(task="a", reason="poor") if ctx.round < 12 else "good"


async def dies_once(assignment: AttemptInput) -> ResultRef:
    if assignment.previous_failure is None:
        saved = Checkpoint(seq=1, route="fragile").model_dump(mode="json")
        activity.heartbeat({"checkpoint": saved, "said": "one"})
        await asyncio.Event().wait()
    return ResultRef(digest="d", attempt=2)


async def is_moved_once(assignment: AttemptInput) -> ResultRef:
    if assignment.previous_failure is None:
        raise reported(FailureType.DRAINED, "the worker drained")
    return ResultRef(digest="d", attempt=2)


async def kills(assignment: AttemptInput) -> ResultRef:
    raise reported(FailureType.CRASHED, "exit report: killed by SIGKILL")


async def is_hit(assignment: AttemptInput) -> ResultRef:
    """
    Be killed by nobody knows whom, twice among others and once in quarantine.
    """
    hits = len((assignment.previous_failure or "").partition("hit ")[2])
    if hits == 3:
        return ResultRef(digest="d", attempt=4)
    seen = Death(watched_s=86_400.0)
    raise reported(FailureType.CRASHED, f"exit report: hit {'x' * (hits + 1)}", seen)


def reported(kind: str, cause: str, death: Death = UNSEEN_DEATH) -> ApplicationError:
    details = FailureDetails(
        detected_by=Detector.EXIT if kind == FailureType.CRASHED else Detector.DRAIN,
        checkpoint=Checkpoint(seq=1, route="any"),
        attempts=1,
        death=death,
    )
    return ApplicationError(cause, details.dump(), type=kind, non_retryable=True)


def missions(crew: Crew) -> dict[str, Mission]:
    endless = [task("a", "for_ever"), task("b", "well", needs=["a"])]
    planned: dict[str, list[Any]] = {
        "graph": [
            task("a", "well"),
            task("b", "well", needs=["a"]),
            task("c", "well", needs=["a"]),
        ],
        "failures": [
            task("sick", "ill"),
            task("after", "well", needs=["sick"]),
            task("extra", "hopeless", required=False),
            task("rerouted", "backed"),
        ],
        "follow-ups": [task("p", "plan")],
        "death": [task("t", "fragile")],
        "convicted": [task("t", "killer")],
        "quarantined": [task("t", "unlucky")],
        "handed-on": [task("t", "mover")],
        "too-long": [task("t", "slow")],
        "parked": [task("t", "unsure")],
        "paused": [task("a", "well")],
        "tagged": endless,
        "cancelled": endless,
        "cancelled-from-outside": endless,
        "spread": [task("s", "spread"), task("after", "well", needs=["s"])],
        "redone": [task("a", "well"), task("b", "judge", needs=["a"])],
        "approved": [task("a", "well", approval=Approval(before="start"))],
        "rerouted": [task("a", "unplayed")],
        "tree": [task("p", "mission", input=INNER)],
        "timed-out": [task("a", "for_ever", budget=Budget(time_s=0.5))],
    }
    made = {name: crew.mission(*tasks, id=name) for name, tasks in planned.items()}
    late = Limits(deadline_s=1.0)
    return {**made, "late": crew.mission(*endless, id="late", limits=late)}


async def pause(handle: Handle) -> None:
    await handle.execute_update("pause")
    await handle.execute_update("unpause")


async def approve(handle: Handle) -> None:
    while not (
        await handle.query("progress", result_type=MissionProgress)
    ).approval_requests:
        pass
    await handle.execute_update("approve", DecisionInput(task="a", reason="recorded"))


async def reroute(handle: Handle) -> None:
    await runs(handle)
    seen = UnservedTasks(
        activity_ids=[str(AttemptId("a", "unplayed", 1))], served_roles=["well"]
    )
    await handle.execute_update("reroute", seen)


async def runs(handle: Handle) -> None:
    while not (await handle.query("progress", result_type=MissionProgress)).running:
        pass


async def cancel(handle: Handle) -> None:
    await runs(handle)
    await handle.execute_update("cancel", "recorded")


async def pause_and_cancel(handle: Handle) -> None:
    await runs(handle)
    await pause(handle)
    await cancel(handle)


async def cancel_from_outside(handle: Handle) -> None:
    await runs(handle)
    await handle.cancel()


BESIDES: dict[str, Callable[[Handle], Awaitable[None]]] = {
    "cancelled": cancel,
    "cancelled-from-outside": cancel_from_outside,
    "paused": pause,
    "approved": approve,
    "rerouted": reroute,
    "tagged": pause_and_cancel,
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(Path(folder), *choose_ports(None, None))
        await server.start()
        try:
            crew = Crew(
                await connect(server.address, identity="recorder"),
                Store(Path(folder) / "store.db"),
            )
            await record(crew)
        finally:
            server.stop()


async def record(crew: Crew) -> None:
    cast(crew)
    async with crew.at_work(), leases_at_work(crew):
        for name, mission in missions(crew).items():
            if name in kept():
                continue
            tags = TAGGED if name == "tagged" else None
            handle = await crew.start(mission, search_attributes=tags)
            if name in BESIDES:
                await BESIDES[name](handle)
            await ended(handle)
            await keep(name, handle)
            if name == "spread":
                await keep(
                    "spread-batch", crew.client.get_workflow_handle("spread~fanout~s")
                )
        await record_renewed(crew)


async def record_renewed(crew: Crew) -> None:
    """
    Keep the first two runs of a mission whose history is full after a few events, and
    which has an attempt under way then.
    """
    if "renewed" in kept():
        return
    renewal.RENEW_EVENTS, renewal.GRACE_S = FULL, 0.3
    lasting = task("c", "for_ever", required=False, budget=Budget(time_s=5))
    tasks = [task("a", "well"), task("b", "picky", needs=["a"]), lasting]
    handle = await crew.start(
        crew.mission(*tasks, id="renewed", limits=Limits(redos=12))
    )
    await ended(handle)
    first = crew.client.get_workflow_handle(
        "renewed", run_id=handle.first_execution_run_id
    )
    closed = (await first.fetch_history()).events[-1]
    second = closed.workflow_execution_continued_as_new_event_attributes
    again = crew.client.get_workflow_handle(
        "renewed", run_id=second.new_execution_run_id
    )
    await keep("renewed", first)
    await keep("renewed-again", again)


def cast(crew: Crew) -> None:
    for role, play in {
        "well": well,
        "ill": ill,
        "hopeless": hopeless,
        "plan": plan,
        "unsure": unsure,
        "for_ever": for_ever,
        "judge": judge,
        "picky": picky,
        "spread": spread,
    }.items():
        crew.plays(role, play)
    crew.plays("backed", ill, fallbacks=("well",))
    crew.plays("unplayed", well, fallbacks=("well",))
    crew.lost = {"unplayed"}
    crew.plays("slow", for_ever, policy=Policy(attempt_limit_s=0.5, failures=2))
    crew.ends("fragile", dies_once)
    crew.ends("mover", is_moved_once)
    crew.ends("killer", kills)
    crew.ends("unlucky", is_hit)


@asynccontextmanager
async def leases_at_work(crew: Crew) -> AsyncIterator[None]:
    """
    Take leases of what is spread.
    """
    place = WorkerContext(Ledger(crew.store))
    async with AgentWorkers(crew.client, place, Settings()).leases(crew.agents["well"]):
        yield


if __name__ == "__main__":
    asyncio.run(main())
