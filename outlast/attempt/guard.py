"""
One attempt of one task, from its claim to its recorded result.

It knows nothing of Temporal: whoever runs it says how a beat is sent and what to do
with what it raises. Nothing is reported that is not in the ledger first.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from outlast.attempt import genai
from outlast.attempt.agent import Agent, Degraded, loaded
from outlast.attempt.agent_check import asks_for_work, refuse_bad_work
from outlast.attempt.brisk import brisk
from outlast.attempt.codec import Codec, LossError
from outlast.attempt.context import Context
from outlast.attempt.counts import FAILED_BEFORE, recovered
from outlast.attempt.fence import Claim
from outlast.attempt.floats import restored, tagged
from outlast.attempt.hands import NOBODY, Hand, Hands
from outlast.attempt.ledger import Ledger
from outlast.attempt.log_context import log_as
from outlast.attempt.playing import Playing
from outlast.attempt.secrets import masked
from outlast.attempt.spans import Attributes, about, describe, span
from outlast.contracts.errors import GiveUp, ResultError, StalledError
from outlast.contracts.models import (
    RESULT_BYTES,
    Answer,
    Assignment,
    Beat,
    Checkpoint,
    FanOut,
    FanOutRef,
    FollowUps,
    Redo,
    Redoing,
)
from outlast.contracts.names import batch_of
from outlast.contracts.policies import SHIPPED
from outlast.contracts.pool import ITEM_BYTES, Batch
from outlast.contracts.texts import CAUSE_CHARS, SUMMARY_CHARS, digest
from outlast.store.items import identified


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
        fence: int,
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
            begun = await store.run(
                ledger.begin, self.assignment, self.agent.role, self.fence, carried
            )
        self.claim, self.checkpoint = begun.claim, begun.checkpoint
        log_as(begun.claim.mission, begun.claim.task, begun.claim.attempt)
        told = self._tell_begun(begun.claim)
        if begun.answer is not None:
            return begun.answer
        if self.checkpoint.seq:
            self.hand.save(self.checkpoint.model_dump_json().encode())
        try:
            with span(f"{genai.INVOKE_AGENT} {self.agent.role}", told):
                value = await self._play()
            if asks_for_work(value):
                await store.run(refuse_bad_work, value, loaded())
            if isinstance(value, FanOut):
                return await store.run(self._spread, value)
            answer, result = _answer(value, self.claim.attempt, self.agent.codec)
            await store.run(ledger.record, self.claim, answer, result)
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
        noticed_by = FAILED_BEFORE if self.retried else self.assignment.noticed_by
        if noticed_by and claim.after_s is not None:
            recovered(noticed_by, claim.after_s)
            whose["outlast.noticed_by"] = noticed_by
            whose["outlast.after_s"] = claim.after_s
        describe(whose)
        return {**whose, **genai.invoking(self.agent.role, self.agent.version)}

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
        name = batch_of(self.assignment.mission, task, self.assignment.round)
        rows = identified((encode_item(each), None) for each in spread.items)
        batch = Batch(id=name, role=spread.role, tenant=self.assignment.tenant)
        made = FanOutRef(batch=name, role=spread.role, items=len(rows))
        answer, result = _answer(made, self.claim.attempt, self.agent.codec)
        answer = answer.model_copy(update={"spread": made})
        self.place.ledger.record_spread(self.claim, answer, result, batch, rows)
        return answer

    async def _play(self) -> Any:
        assert self.claim is not None
        ledger, assignment = self.place.ledger, self.assignment
        ctx = Context(self.agent, self.claim, ledger, self.checkpoint, assignment)
        ctx.tell(self.hand)
        self._ctx = ctx
        try:
            needed = await self._needed()
            playing = Playing(self.agent, ctx, self.hand, self.place.left)
            return await playing.result(
                lambda agent: agent.read(assignment.task.input, needed)
            )
        finally:
            self._ctx = None
            self.checkpoint = ctx.beat.checkpoint
            ctx.close()

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
            if ctx and time.monotonic() - ctx.progressed_at > stall_s:
                stalled = StalledError.after(stall_s, ctx.waits_at())
                ctx.gate.end_by(stalled, at_once=True)
            await asyncio.sleep(self.place.beat_s)

    async def _needed(self) -> dict[str, JsonValue]:
        """
        Fetch the results of the tasks that this one needs, by task id.
        """
        ledger, store = self.place.ledger, self.place.ledger.store
        found: dict[str, JsonValue] = {}
        for need in self.assignment.needs:
            result = await store.run(ledger.result, self.assignment.mission, need)
            if result is None:
                raise GiveUp(f"the result of {need!r} is not in the ledger")
            found[need] = restored(result[1])
        return found


def encode(value: Any, codec: Codec) -> str:
    """
    Write a result as JSON.

    :raises ResultError: when what needs it would not get it as it is, or when it is
        over the cap.
    """
    try:
        body = codec.result(value)
    except LossError as loss:
        raise ResultError(f"the result cannot be kept: {loss}") from None
    if len(body) > RESULT_BYTES:
        raise ResultError(
            f"a result of {len(body)} bytes is over the cap of {RESULT_BYTES}: store "
            "it and return where it lies"
        )
    return body.decode()


def encode_item(item: dict[str, JsonValue]) -> str:
    """
    Write an item in the one way that tells it from others.

    :raises ResultError: when it is over the cap.
    """
    body = json.dumps(tagged(item), sort_keys=True, separators=(",", ":"))
    if len(body) > ITEM_BYTES:
        raise ResultError(f"an item of {len(body)} bytes is over {ITEM_BYTES}")
    return body


def _answer(value: Any, attempt: int, codec: Codec) -> tuple[Answer, JsonValue]:
    """
    Split what an agent returned into the answer that travels and the result that
    stays.

    :raises ResultError: when it is no JSON or over the cap.
    """
    reasons: list[str] = []
    if isinstance(value, Degraded):
        reasons = [masked(value.reason, CAUSE_CHARS)]
        value = value.result
    follow_ups = value.tasks if isinstance(value, FollowUps) else []
    redo = _redoing(value) if isinstance(value, Redo) else None
    if isinstance(value, FollowUps | Redo):
        value = value.result
    text = encode(value, codec)
    result: JsonValue = json.loads(text)
    answer = Answer(
        digest=digest(text),
        attempt=attempt,
        summary=masked(_summary(result) or text, SUMMARY_CHARS),
        degraded=reasons,
        follow_ups=follow_ups,
        redo=redo,
    )
    return answer, result


def _summary(result: JsonValue) -> str:
    """
    Read how a result sums itself up, in its field `summary`; "" when it does not.
    """
    told = result.get("summary") if isinstance(result, dict) else None
    return told if isinstance(told, str) else ""


def _redoing(redo: Redo) -> Redoing:
    reason, stands = masked(redo.reason, CAUSE_CHARS), redo.result is not None
    return Redoing(task=redo.task, reason=reason, stands=stands)
