"""
One attempt of one task, from its claim to its recorded result.

It knows nothing of Temporal: whoever runs it says how a beat is sent and what to do
with what it raises. Nothing is reported that is not in the ledger first.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from outlast.agents.agent_check import asks_for_work, refuse_bad_work
from outlast.agents.context import Context
from outlast.agents.registry import Agent, loaded
from outlast.contracts.batches import Batch
from outlast.contracts.errors import GiveUp, StalledError
from outlast.contracts.failures import Detector
from outlast.contracts.ids import FanOutId
from outlast.contracts.models import (
    Answer,
    Assignment,
    Beat,
    Checkpoint,
    FanOut,
    FanOutRef,
)
from outlast.contracts.policies import SHIPPED
from outlast.contracts.sizes import NEEDS_TIMES
from outlast.execution.agent_call import Playing
from outlast.execution.eager import Starter
from outlast.execution.floats import parsed
from outlast.execution.in_flight import NOBODY, Hand, Hands
from outlast.execution.off_loop import off_loop
from outlast.execution.results import answer_of, encode_item, lean
from outlast.execution.runs import in_order
from outlast.execution.switch_interval import brisk
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.fence import Claim
from outlast.ledger.items import identified
from outlast.ledger.ledger import Ledger
from outlast.ledger.payloads import putting
from outlast.telemetry import semconv
from outlast.telemetry.counters import FAILED_BEFORE, recovered
from outlast.telemetry.log_context import log_as
from outlast.telemetry.spans import Attributes, about, describe, span


@dataclass(frozen=True)
class Place:
    """
    Where attempts run: the books, the pulse, and who is told what is in hand.

    :param drain_s: how long an attempt may last in all once its worker drains.
    :param left: the calls of agents that could not be ended and still run.
    """

    ledger: Ledger
    beat_s: float = SHIPPED.beat_s
    hands: Hands = NOBODY
    drain_s: float = 0.0
    left: set[Playing] = field(default_factory=set)

    def own(self, store: str) -> None:
        """
        Make sure that the books with the id *store* are ours: played into others,
        effects could happen twice.

        :raises GiveUp: when they are not.
        """
        ours = self.ledger.store
        if store not in ("", ours.id):
            raise GiveUp(
                f"the mission's books are in another store than {ours.place}: give "
                "each store a Temporal namespace of its own"
            )


class Attempt:
    """
    One attempt of *assignment* by *agent*, with the right to write given by *fence*.
    """

    def __init__(
        self,
        agent: Agent,
        assignment: Assignment,
        fence: int | AttemptOrder,
        place: Place,
        beat: Callable[[Beat], None] = lambda _: None,
    ) -> None:
        self.agent = agent
        self.assignment = assignment
        self.fence = fence
        self.place = place
        self.claim: Claim | None = None
        self.checkpoint = Checkpoint()
        self.hand: Hand = NOBODY
        self.retried = False  # by the server: the attempt before it has raised
        self._send = beat
        self._ctx: Context | None = None  # while the agent is at work

    async def run(self, carried: list[Checkpoint]) -> Answer:
        """
        Do the task, going on from the newest of the *carried* and saved checkpoints.

        :raises StaleAttemptError: when a later attempt has the task.
        :raises TaskError: what the agent said, or that it stalled.
        """
        self.place.own(self.assignment.store)
        known = max(carried, key=lambda each: each.seq, default=self.checkpoint)
        # From before the first line to the recorded result: a store that is away at
        # either end must not make the attempt look lost.
        pulse = asyncio.ensure_future(self._pulse(Beat(checkpoint=known)))
        try:
            return await self._run(carried)
        finally:
            pulse.cancel()

    async def _run(self, carried: list[Checkpoint]) -> Answer:
        ledger, store = self.place.ledger, self.place.ledger.store
        with brisk():
            begun = await in_order(
                ledger,
                self.fence,
                self.assignment.mission,
                lambda: ledger.begin(
                    self.assignment, self.agent.role, self.fence, carried
                ),
            )
        self.claim, self.checkpoint = begun.claim, begun.checkpoint
        log_as(begun.claim)
        told = self._tell_begun(begun.claim)
        if begun.answer is not None:
            return begun.answer
        if self.checkpoint.seq:
            self.hand.save(self.checkpoint.model_dump_json().encode())
        try:
            with span(f"{semconv.INVOKE_AGENT} {self.agent.role}", told):
                value = await self._play()
            if asks_for_work(value):
                await store.run(refuse_bad_work, value, loaded())
            if isinstance(value, FanOut):
                return await store.run(self._spread, value)
            answer, result = await off_loop(self._answer, value)
            answer, inputs = lean(answer, self.assignment, store.largest)
            keep = putting(self.assignment.mission, inputs)
            await store.run(ledger.record_text, self.claim, answer, result, keep)
        finally:
            if self.checkpoint.blob is not None:
                store.shrink_soon()
        return answer

    def _tell_begun(self, claim: Claim) -> Attributes:
        """
        Tell whose attempt this is and what it goes on after; returns what is to be
        told of its agent's call.
        """
        whose = about(claim, self.agent.role, self.checkpoint.seq)
        asked = self.assignment
        detected_by = Detector.FAILURE if self.retried else asked.detected_by
        if detected_by and claim.after_s is not None:
            failure = FAILED_BEFORE if self.retried else asked.previous_failure
            recovered(detected_by, claim.after_s)
            whose["outlast.detected_by"] = detected_by
            whose["outlast.previous_failure"] = failure or ""
            whose["outlast.after_s"] = claim.after_s
        describe(whose)
        return {**whose, **semconv.invoking(self.agent.role, self.agent.version)}

    def _spread(self, spread: FanOut) -> Answer:
        """
        Record the fan-out, with its items where the pool finds them.

        :raises GiveUp: when their effects would happen without being asked for.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        assert self.claim is not None
        approval = self.assignment.task.approval
        if approval is not None and approval.before == "effect":
            raise GiveUp("a task whose effects a person must approve may not spread")
        task = self.assignment.task.id
        name = str(FanOutId(self.assignment.mission, task, self.assignment.round))
        largest = self.place.ledger.store.largest
        rows = identified((encode_item(each, largest), None) for each in spread.items)
        scope = self.claim.logical.within(task, self.assignment.round)
        batch = Batch(id=name, role=spread.role, tenant=self.claim.tenant, scope=scope)
        made = FanOutRef(batch=name, role=spread.role, items=len(rows))
        answer, result = self._answer(False, made)
        answer = answer.model_copy(update={"spread": made})
        self.place.ledger.record_spread(self.claim, answer, result, batch, rows)
        return answer

    async def _play(self) -> Any:
        assert self.claim is not None
        ledger, assignment = self.place.ledger, self.assignment
        ctx = Context(self.agent, self.claim, ledger, self.checkpoint, assignment)
        ctx.tell(self.hand)
        self._ctx = ctx
        starter = Starter()
        try:
            needed, given = await self._needed(), await self._given()
            playing = Playing(self.agent, ctx, starter, self.hand, self.place.left)
            return await playing.result(lambda agent: agent.read(given, needed))
        finally:
            self._ctx = None
            starter.close()
            self.checkpoint = ctx.beat.checkpoint
            ctx.close()

    def beat(self) -> None:
        """
        Send a sign of life with what was saved last.
        """
        self._send(Beat(checkpoint=self.checkpoint))

    async def _pulse(self, known: Beat) -> None:
        """
        Beat while the event loop lives; end the agent when it makes no progress.

        :param known: what is sent until the attempt knows where it goes on.
        """
        stall_s = self.assignment.policy.stall_s
        while True:
            ctx = self._ctx
            own = Beat(checkpoint=self.checkpoint) if self.claim else known
            self._send(ctx.beat if ctx else own)
            if ctx and self.place.ledger.store.calls.waits:
                ctx.progressed_at = time.monotonic()
            if ctx and time.monotonic() - ctx.progressed_at > stall_s:
                stalled = StalledError.after(stall_s, ctx.waits_at())
                ctx.gate.end_by(stalled, at_once=True)
            await asyncio.sleep(self.place.beat_s)

    def _answer(self, quickly: bool, value: Any) -> tuple[Answer, str]:
        """
        Part what an agent has returned: what travels, and the result as JSON.
        """
        assert self.claim is not None
        largest = self.place.ledger.store.largest
        codec = self.agent.codec
        return answer_of(quickly, value, self.claim.attempt, codec, largest)

    async def _given(self) -> dict[str, JsonValue]:
        """
        Fetch the task's input where it was too large to travel.
        """
        task, ledger = self.assignment.task, self.place.ledger
        if task.stored is None:
            return task.input
        body = await ledger.store.run(ledger.kept, task.stored)
        if body is None:
            raise GiveUp("its input is not in the store any more")
        given: dict[str, JsonValue] = from_json(body)
        return given

    async def _needed(self) -> dict[str, JsonValue]:
        """
        Fetch the results of the tasks that this one needs, by task id.

        :raises GiveUp: when one is not there, or all of them are more than one attempt
            may be given.
        """
        ledger, store = self.place.ledger, self.place.ledger.store
        mission, needs = self.assignment.mission, self.assignment.needs
        size = await store.run(_size_of, ledger, mission, needs) if needs else 0
        if size > (most := NEEDS_TIMES * store.largest):
            raise GiveUp(
                f"the {len(needs)} results that it needs have {size} bytes together, "
                f"over the cap of {most} (see OUTLAST_LARGEST_MB): have tasks between "
                "them sum them up"
            )
        found: dict[str, JsonValue] = {}
        for need in needs:
            found[need] = parsed(await store.run(ledger.text, mission, need))
        return found


def _size_of(ledger: Ledger, mission: str, needs: list[str]) -> int:
    """
    Add up how large the results of *needs* are.

    :raises GiveUp: when one is not there.
    """
    size = 0
    for need in needs:
        answer = ledger.answer(mission, need)
        if answer is None:
            raise GiveUp(f"the result of {need!r} is not in the ledger")
        size += answer.size
    return size
