"""
Foreign hands: another client of Temporal does as it likes with missions at work.

    python -m testkit.other_clients [--seed N] [--operations 1000] [--missions 50]

Each operation is drawn by the seed, which is printed. At the end everything is brought
to its end by the starter's own verbs; then no mission may be wedged, the store must say
what the server has, no effect may have happened twice, and every kind of operation must
have been done.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError

from outlast.contracts.errors import OutlastError
from outlast.contracts.ids import MISSIONS_QUEUE, AttemptId, parse
from outlast.ledger.batches import INTERRUPTED
from outlast.ledger.missions import ACCEPTED, MissionRecords
from outlast.store.database import Store
from outlast.store.outages import is_transient_grpc
from outlast.temporal.connect import connect
from outlast.temporal.reconcile import Reconciler
from outlast.temporal.resume import abandon, resume
from testkit.processes import Home, events, rehearsal, temporary_home, wait_for

WEIGHTS = {
    "terminate": 12,
    "cancel": 6,
    "delete": 8,
    "reset": 18,
    "signal": 12,
    "update": 14,
    "complete": 6,
    "resume": 15,
    "abandon": 4,
    "kill_worker": 3,
    "kill_server": 2,
}
NONSENSE: list[tuple[str, list[Any]]] = [
    ("cancel", [{"not": "a string"}]),
    ("approve", ["garbage"]),
    ("redrive", [{"tasks": ["nothing"]}]),
    ("reroute", [{"activity_ids": 7}]),
    ("nothing", []),
    ("pause", []),
    ("unpause", []),
    ("cancel", ["by the drill"]),
]
# Steps of a task, and how long each takes.
STEPS, STEP_S = 8, 0.25
MISSIONS_END_LIMIT_S = 240.0
OPERATION_LIMIT_S = 15.0


@dataclass
class OtherClientsDrill:
    """
    Missions at work in *home*, and what was done to them.
    """

    home: Home
    client: Client
    store: Store
    missions: int
    random: random.Random
    fired: Counter[str] = field(default_factory=Counter)
    started: int = 0

    @property
    def log(self) -> Path:
        return self.home.path / "drill.jsonl"

    @property
    def records(self) -> MissionRecords:
        return MissionRecords(self.store)

    async def run(self, operations: int) -> None:
        """
        Do so many operations, then bring everything to its end.
        """
        while sum(self.fired.values()) < operations:
            await self.begin_some()
            kind = self.random.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
            name = self.choose(kind)
            if name is None:
                await asyncio.sleep(0.05)
                continue
            act: Callable[[str], Awaitable[bool]] = getattr(self, kind)
            self.fired[kind] += await self.retry(act, name)
        await self.end_all()

    async def retry(self, act: Callable[[str], Awaitable[bool]], name: str) -> bool:
        """
        Do *act*; False when there was nothing any more that it could be done to.
        """
        while True:
            try:
                async with asyncio.timeout(OPERATION_LIMIT_S):
                    return await act(name)
            except (OutlastError, WorkflowUpdateFailedError, TimeoutError):
                return False
            except RPCError as error:
                if not is_transient_grpc(error.status.name):
                    return False
                await asyncio.sleep(0.3)

    async def begin_some(self) -> None:
        """
        Keep as many missions at work as were asked for, as Temporal alone starts them.
        """
        while len(self.states(ACCEPTED, "starting")) < self.missions:
            self.started += 1
            await self.retry(self.begin, f"m{self.started:04}")

    async def begin(self, name: str) -> bool:
        script = {"steps": STEPS, "step_seconds": STEP_S}
        tasks = [
            rehearsal("a", self.log, **script),
            rehearsal("b", self.log, **script),
            rehearsal("c", self.log, "a", effect=f"pay-{name}", **script),
        ]
        await self.client.start_workflow(
            "Supervisor",
            {"goal": "drill", "tasks": tasks},
            id=name,
            task_queue=MISSIONS_QUEUE,
        )
        # Until its first activity has opened its record.
        await asyncio.to_thread(wait_for, lambda: self.records.find(name), name)
        return True

    def states(self, *wanted: str) -> list[str]:
        return sorted(e.id for e in self.records.records() if e.state in wanted)

    def choose(self, kind: str) -> str | None:
        if kind.startswith("kill"):
            return kind
        if kind in ("resume", "abandon"):
            there = self.states(INTERRUPTED)
        elif kind == "reset":
            there = sorted(each.id for each in self.records.records())
        else:
            there = self.states(ACCEPTED)
        return self.random.choice(there) if there else None

    def handle(self, name: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(name)

    async def terminate(self, name: str) -> bool:
        await self.handle(name).terminate(reason="by the drill")
        return True

    async def cancel(self, name: str) -> bool:
        await self.handle(name).cancel()
        return True

    async def delete(self, name: str) -> bool:
        await self.client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=name),
            )
        )
        return True

    async def reset(self, name: str) -> bool:
        """
        Begin its latest run again after a workflow task of its history.
        """
        described = await self.handle(name).describe()
        run = described.run_id or ""
        history = await self.client.get_workflow_handle(
            name, run_id=run
        ).fetch_history()
        finished = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        points = [e.event_id for e in history.events if e.event_type == finished]
        if not points:
            return False
        await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=name, run_id=run),
                reason="by the drill",
                workflow_task_finish_event_id=self.random.choice(points),
                request_id=str(uuid4()),
            )
        )
        return True

    async def signal(self, name: str) -> bool:
        given = self.random.choice([{"a": 1}, "x", None, [1, 2]])
        await self.handle(name).signal(self.random.choice(["wake", "nonsense"]), given)
        return True

    async def update(self, name: str) -> bool:
        update, args = self.random.choice(NONSENSE)
        with suppress(WorkflowUpdateFailedError):  # most are refused
            await self.handle(name).execute_update(update, args=args)
        return True

    async def complete(self, name: str) -> bool:
        """
        Complete an attempt that is at work with what is no answer.
        """
        described = await self.handle(name).describe()
        pending = described.raw_description.pending_activities
        ids = [each.activity_id for each in pending]
        attempts = [each for each in ids if parse(AttemptId, each)]
        if not attempts:
            return False
        attempt = self.client.get_async_activity_handle(
            workflow_id=name, run_id=None, activity_id=self.random.choice(attempts)
        )
        await attempt.complete("garbage")
        return True

    async def resume(self, name: str) -> bool:
        await resume(self.client, self.store, name)
        return True

    async def abandon(self, name: str) -> bool:
        await abandon(self.client, self.store, name)
        return True

    async def kill_worker(self, _: str) -> bool:
        fleet = self.home.fleets[0]
        pids = fleet.pids("agents") + fleet.pids("workflows")
        if not pids:
            return False
        try:
            os.kill(self.random.choice(pids), signal.SIGKILL)
        except ProcessLookupError:  # it has ended by itself since
            return False
        return True

    async def kill_server(self, _: str) -> bool:
        self.home.kill_server()
        await self.home.server.start()
        return True

    async def end_all(self) -> None:
        """
        Have all that is under way end, as a person would.
        """
        reconciler = Reconciler(self.client, self.store)
        deadline = time.monotonic() + MISSIONS_END_LIMIT_S
        while True:
            await self.retry(lambda _: _done(reconciler.all()), "")
            for name in self.states(INTERRUPTED):
                act = self.random.choice([self.resume, self.abandon])
                await self.retry(act, name)
            left = self.states(ACCEPTED, INTERRUPTED, "starting")
            if not left:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"these do not end: {', '.join(left)}")
            for name in left:
                await self.retry(self.unpause, name)
            await asyncio.sleep(1.0)

    async def unpause(self, name: str) -> bool:
        await self.handle(name).execute_update("unpause")
        return True

    def violations(self) -> list[str]:
        doctor = self.home.starter("doctor")
        audit = self.home.starter("audit")
        found = [] if doctor.code == 0 else [f"doctor: {doctor.out}{doctor.err}"]
        found += [] if audit.code == 0 else [f"audit: {audit.out}{audit.err}"]
        found += [f"{kind} was never done" for kind in WEIGHTS if not self.fired[kind]]
        effects = Counter(each["key"] for each in events(self.log, "effect"))
        return found + [f"{k} was done {n} times" for k, n in effects.items() if n > 1]


async def _done(doing: Awaitable[None]) -> bool:
    await doing
    return True


async def drill(
    home: Home, seed: int, operations: int, missions: int
) -> OtherClientsDrill:
    client = await connect(home.server.address)
    store = Store(home.path / "store.db")
    made = OtherClientsDrill(home, client, store, missions, random.Random(seed))
    await made.run(operations)
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--operations", type=int, default=1000)
    parser.add_argument("--missions", type=int, default=50)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with temporary_home() as home:
        home.fleet(processes=2)
        given = asked.seed, asked.operations, asked.missions
        made = asyncio.run(drill(home, *given))
        amiss = made.violations()
    told = ", ".join(f"{kind} {made.fired[kind]}" for kind in WEIGHTS)
    print(f"{made.started} missions; {told}")
    print("\n".join(amiss) or "nothing is wedged, and the store says what Temporal has")
    return int(bool(amiss))


if __name__ == "__main__":
    sys.exit(main())
