"""
What an agent is given besides its input: memory that outlives it, and done-once.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from outlast.attempt import secrets, spans
from outlast.attempt.agent import Agent
from outlast.attempt.agent_input import first_fault
from outlast.attempt.codec import LossError
from outlast.attempt.effect_identity import IfUnsure, ScopeName, propose
from outlast.attempt.effects import Effects, permission_of
from outlast.attempt.ends import NOBODYS_FAULT
from outlast.attempt.fence import Claim
from outlast.attempt.floats import restored
from outlast.attempt.gate import Gate
from outlast.attempt.hands import NOBODY, Hand
from outlast.attempt.ledger import Ledger, Spent, Used
from outlast.attempt.log_context import log_as
from outlast.attempt.off_loop import off_loop
from outlast.attempt.promises import Promises, promised
from outlast.attempt.services import guarded
from outlast.attempt.waits import nowhere
from outlast.contracts.errors import (
    BudgetSpentError,
    CheckpointError,
    HeldError,
    OutsideError,
    StaleAttemptError,
)
from outlast.contracts.ids import TaskRoundId
from outlast.contracts.models import Assignment, Beat, Checkpoint
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.store.calls import Call
from outlast.store.outcomes import Harvested, Outcomes

T = TypeVar("T")

# What a beat carries besides the value: seq, version, field names, the said line.
ENVELOPE_BYTES = 1024
SAID_CHARS = 200

# How soon an attempt that the mesh holds goes on once it may.
PERMITTED_S = 0.02


class Context:
    """
    One attempt, as its agent sees it.

    In a plain (not async) agent, wrap what must be awaited:
    `ctx.run_sync(ctx.save(x))`.
    """

    _can_ask = True  # a person, about its effects

    # Each item of a batch has a context: what stays as it is here is not written.
    waits_at: Callable[[], str] = staticmethod(nowhere)  # a line of the agent's
    _kind: Any = None  # what progress is resumed as
    _said = ""
    _hand: Hand = NOBODY
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        agent: Agent,
        claim: Claim,
        ledger: Ledger,
        checkpoint: Checkpoint,
        assignment: Assignment,
    ) -> None:
        self._agent = agent
        self._claim = claim
        self._ledger = ledger
        self._assignment = assignment
        self._checkpoint = checkpoint
        self.gate = Gate()
        self.promises = Promises()
        self.progressed_at = time.monotonic()

    @property
    def tenant(self) -> str:
        return self._claim.tenant

    @property
    def round(self) -> int:
        return self._claim.round

    @property
    def redo_reason(self) -> str | None:
        """
        Why the task is done again, where another one asked for it.
        """
        return self._assignment.redo_reason

    @property
    def attempt(self) -> int:
        """
        Its number within the round, from 1.
        """
        return self._claim.attempt

    @property
    def key(self) -> str:
        """
        The same for all attempts of a round: see `TaskRoundId`.
        """
        claim = self._claim
        return str(TaskRoundId(claim.mission, claim.task, claim.round))

    @property
    def route(self) -> str:
        """
        The role that is played.
        """
        return self._agent.role

    # Made when the first one is wanted: most items of batches want none.

    @cached_property
    def _waits(self) -> "set[asyncio.Task[Any]]":
        return set()  # what threads wait for

    @cached_property
    def _saving(self) -> asyncio.Lock:
        return asyncio.Lock()  # saves are written in the order of their calls

    @cached_property
    def _turn(self) -> asyncio.Lock:
        return asyncio.Lock()

    @cached_property
    def _effects(self) -> Effects:
        permission = permission_of(self._assignment, self._can_ask)
        return Effects(
            self._claim, permission, self._ledger, self.gate, self._write, self._note
        )

    @property
    def cancelled(self) -> bool:
        """
        Whether the attempt is to end, for whatever reason. A plain agent, which nobody
        can end, asks it in its loops, from any thread, and returns: what it returns
        then counts for nothing.
        """
        return self.gate.ending

    @promised
    async def resume(self, kind: type[T], default: T) -> T:
        """
        Return what was saved last in this round, or *default*.

        :raises CheckpointError: when this version of the agent cannot read it.
        """
        await self.gate.enter()
        self._kind = kind
        if self._checkpoint.seq == 0:
            return default
        body = await self._saved_body()
        try:
            if self._checkpoint.version != self._agent.version:
                return self._migrated(kind, body)
            return self._agent.codec.read(kind, body)
        except ValidationError as error:
            name = getattr(kind, "__name__", str(kind))
            raise CheckpointError(
                f"the checkpoint is no {name}: {first_fault(error)}"
            ) from None

    @promised
    async def save(
        self, value: Any, *, durable: bool = False, tokens: int = 0, cost: float = 0.0
    ) -> None:
        """
        Save progress: it survives the SIGKILL of the process, or, when *durable*,
        the loss of power. What it took is counted with it, as by `record_usage`: no
        death comes between the two.

        :raises BudgetSpentError: when, with this, a limit is passed; it is saved.
        :raises CheckpointError: when `resume` would not give it back as it is, the
            sentence names the field, or when it is over the cap.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        async with self._saving:
            body = await off_loop(self._encoded, value)
            await self._save(body, durable, Used(tokens, cost))

    def _encoded(self, quickly: bool, value: Any) -> bytes:
        try:
            body = self._agent.codec.progress(value, self._kind, quickly=quickly)
        except LossError as loss:
            raise CheckpointError(f"not saved, for it would be lost: {loss}") from None
        if len(body) > (most := self._ledger.store.largest):
            raise CheckpointError(
                f"progress of {len(body)} bytes is over the cap of {most} "
                "(OUTLAST_LARGEST_MB): store it elsewhere and save where it lies"
            )
        return body

    async def _save(self, body: bytes, durable: bool, used: Used) -> None:
        inline: JsonValue = None
        blob: str | None = None
        if len(body) > CHECKPOINT_BYTES - ENVELOPE_BYTES:
            blob = hashlib.sha256(body).hexdigest()
        else:
            inline = json.loads(body)
        checkpoint = Checkpoint(
            seq=self._checkpoint.seq + 1,
            route=self._agent.role,
            version=self._agent.version,
            value=inline,
            blob=blob,
        )
        apart = body if blob else None
        saved, spent = await self._write_in_turn(
            self._ledger.save, checkpoint, durable, used, apart
        )
        if saved.seq > self._checkpoint.seq:  # or a save beside it was written later
            self._hand.save(saved.model_dump_json().encode())
            self._checkpoint = saved
        told = {"outlast.seq": saved.seq, "outlast.bytes": len(body)}
        spans.event("ctx.saved", told)
        if spent is not None:
            self._charged(used, spent)

    @promised
    async def once(
        self,
        key: str,
        act: Callable[..., Any],
        *,
        content: JsonValue,
        payload: JsonValue = None,
        if_unsure: IfUnsure = "park",
        scope: ScopeName = "mission",
    ) -> Any:
        """
        Do *act* once for *key* and *content*, over all attempts, and all rounds and
        tasks of the mission; where it has happened, return what it returned.

        *content* says what makes it this effect and no other (order, recipient,
        amount): it must come out the same in every attempt. None says that the key
        tells it all. *payload* is what is sent where that is worded anew each time: the
        first one of a round is kept, and later attempts send that one.

        *act* is called with an idempotency key and, where there is something to send,
        with the payload that was kept, or else the content. It may be async; what it
        returns must be JSON.

        If an earlier attempt may or may not have acted, *if_unsure* decides:
        `repeat` (the far side honours the idempotency key) or `park`. With the scope
        `tenant` the key is one for all missions of the tenant.

        :raises ApprovalNeededError: when a person must approve it first.
        :raises EffectConflictError: when the key has another content in this round.
        :raises GiveUp: when key, content or payload cannot be kept.
        :raises ParkedError: when a person must look first.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        proposal = propose(key, content, payload, if_unsure, scope)
        return await self._effects.once(proposal, act)

    @promised
    async def check_budget(self) -> None:
        """
        Make sure that the mission and the task have some of their budgets left.

        :raises BudgetSpentError: when one of them is passed.
        """
        await self.record_usage()

    @promised
    async def record_usage(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """
        Count what was used against the limits of the mission and of the task.

        :raises BudgetSpentError: when one of them is passed.
        """
        spent = await self._write(self._ledger.spend, tokens, cost)
        self._charged(Used(tokens, cost), spent)

    def _charged(self, used: Used, spent: Spent) -> None:
        told = {"outlast.tokens": used.tokens, "outlast.cost": used.cost}
        spans.event("ctx.usage_recorded", told)
        limits, budget = self._assignment.limits, self._assignment.task.budget
        try:
            _within("the mission's", spent.mission, limits.tokens, limits.cost)
            _within("the task's", spent.task, budget.tokens, budget.cost)
        except BudgetSpentError as signal:
            raise self.gate.end_by(signal) from None

    async def batch_results(self, batch: str) -> AsyncIterator[Harvested]:
        """
        Read what became of the items of *batch*, in their order: with a result, or
        with the cause why there is none.

        :raises OutsideError: when it is another tenant's.
        """
        await self.gate.enter()
        outcomes = Outcomes(self._ledger.store)
        owner = await outcomes.store.run(outcomes.tenant_of, batch)
        if owner not in (None, self.tenant):
            raise OutsideError(f"batch {batch!r} is another tenant's")
        after = 0
        while found := await outcomes.store.run(outcomes.harvest, batch, after):
            for each in found:
                yield each
            after = found[-1].item

    def emit(self, event: str) -> None:
        """
        Tell whoever follows what is going on; lossy, never in history.
        """
        self.gate.check()
        self._said = secrets.masked(event, SAID_CHARS)
        self.progressed_at = time.monotonic()

    def service(self, name: str) -> AbstractContextManager[None]:
        """
        Ask the outside service *name* within this context, behind its breaker: what is
        raised there counts against it, until it is left alone for a while.

        :raises CircuitOpenError: when it is: catch it to ask another service, or the
            task takes its next route at once.
        """
        self.gate.check()
        return guarded(secrets.mask(name))  # it is shown, and may be an address

    def secret(self, name: str) -> str:
        """
        Read a secret of this worker: the environment's OUTLAST_SECRET_<NAME>.

        :raises MissingSecretError: when the worker was not given it.
        """
        self.gate.check()
        return secrets.hand_out(name)

    def run_sync(self, promise: Coroutine[Any, Any, T]) -> T:
        """
        Await *promise* from a thread: a plain agent's, or one in which an async agent
        or its framework calls a plain tool.

        :raises RuntimeError: on the event loop's own thread, which would wait for
            itself for ever.
        """
        if self._loop is None or _running_loop() is self._loop:
            promise.close()
            raise RuntimeError(
                "ctx.run_sync was called on the event loop's own thread, which would "
                "wait for itself for ever: await it instead"
            )
        waiting = self._awaited(promise)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    async def _awaited(self, promise: Coroutine[Any, Any, T]) -> T:
        """
        Await what a thread waits for, so that `end` can end it.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waits.add(task)
        try:
            return await promise
        finally:
            self._waits.discard(task)

    @property
    def _most_held_s(self) -> float:
        return self._assignment.policy.held_s

    @property
    def beat(self) -> Beat:
        """
        The last checkpoint and what was said last, as a heartbeat carries them.
        """
        return Beat(checkpoint=self._checkpoint, said=self._said)

    @property
    def is_permitted(self) -> bool:
        """
        Whether the mission may go on here.
        """
        return self._ledger.permits.allow(self._claim.mission)

    async def permitted(self) -> None:
        """
        Wait until the mission may go on here; being held is no stall.

        :raises HeldError: when that takes long: the attempt is handed on.
        """
        since = time.monotonic()
        while not self.is_permitted:
            self.progressed_at = time.monotonic()
            if self.progressed_at - since > self._most_held_s:
                held = HeldError(f"{self.key}: held, its peer does not say go on")
                raise self.gate.end_by(held)
            await asyncio.sleep(PERMITTED_S)

    def end(self) -> None:
        """
        Say to the agent that it is to end: by `cancelled`, and by ending what threads
        of it wait for.
        """
        self.gate.ending = True
        self._end_waits()

    def close(self) -> None:
        """
        End the attempt's rights: a thread that lives on can write nothing more.
        """
        self.gate.end(f"{self.key}: this attempt is over")
        self._end_waits()

    def _end_waits(self) -> None:
        for wait in tuple(self.__dict__.get("_waits", ())):
            wait.cancel()

    def name_logs(self) -> None:
        """
        Have what is logged and printed from here on carry the attempt's name.
        """
        log_as(self._claim)

    def tell(self, hand: Hand) -> None:
        """
        Say who is to know of every save.
        """
        self._hand = hand

    def run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Say on which event loop `run_sync` has its promises awaited.
        """
        self._loop = loop

    async def _write(self, method: Callable[..., T], *args: Any) -> T:
        await self._may_write()
        return await self._note(method, *args)

    async def _note(self, method: Callable[..., T], *args: Any) -> T:
        """
        Write what has happened, also once a signal was raised.
        """
        with self._signals():
            answer = await self._ledger.store.run(method, self._claim, *args)
        self.progressed_at = time.monotonic()
        return answer

    async def _may_write(self) -> None:
        if not self.is_permitted:
            await self.permitted()
        await self.gate.enter()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """
        Make what the ledger refuses the signal that ends the attempt.
        """
        try:
            yield
        except (StaleAttemptError, *NOBODYS_FAULT) as signal:
            raise self.gate.end_by(signal) from None
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as death:  # as tests put one into the ledger
            raise self.gate.end_by(death, at_once=True) from None

    async def _write_in_turn(self, method: Callable[..., T], *args: Any) -> T:
        """
        Write behind all that was to be written before, also behind a write whose
        caller was cancelled: of saves at the same moment the last is to be resumed.
        """
        await self._turn.acquire()
        writing: Call | None = None
        try:
            await self._may_write()
            writing = self._ledger.store.keep(method, self._claim, *args)
            with self._signals():
                answer: T = await writing.future
        finally:
            if writing is None or not writing.future.cancelled():
                self._turn.release()
            else:
                writing.then(self._turn.release)
        self.progressed_at = time.monotonic()
        return answer

    async def _saved_body(self) -> bytes:
        blob = self._checkpoint.blob
        if blob is None:
            return json.dumps(self._checkpoint.value).encode()
        whose = (self._claim.mission, self._claim.task)
        store = self._ledger.store
        body = await store.run(self._ledger.fetch, *whose, blob)
        if body is None:
            raise CheckpointError(f"large progress {blob[:12]} is not in the store")
        return body

    def _migrated(self, kind: type[T], body: bytes) -> T:
        saved = self._checkpoint.version
        if self._agent.migrate is None:
            raise CheckpointError(
                f"the checkpoint is of version {saved}, agent {self._agent.role!r} is "
                f"version {self._agent.version} and migrates nothing"
            )
        value = self._agent.migrate(saved, restored(json.loads(body)))
        read: T = TypeAdapter(kind).validate_python(value, by_alias=True, by_name=True)
        return read


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _within(whose: str, used: Used, tokens: int | None, cost: float | None) -> None:
    if tokens is not None and used.tokens > tokens:
        raise BudgetSpentError(f"{used.tokens} tokens used of {whose} {tokens}")
    if cost is not None and used.cost > cost:
        raise BudgetSpentError(f"cost {used.cost:.2f} of {whose} {cost:.2f} spent")
