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

from outlast import secrets
from outlast.agents.agent_input import first_fault
from outlast.agents.effects import Effects, permission_of
from outlast.agents.pending_calls import PendingCalls, tracked
from outlast.agents.registry import Agent
from outlast.contracts.errors import (
    BudgetExceededError,
    CheckpointError,
    OutsideFolderError,
    RunSuspendedError,
    StaleAttemptError,
)
from outlast.contracts.ids import TaskRoundId
from outlast.contracts.models import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.execution.circuit_breakers import circuit
from outlast.execution.codec import LossyEncodingError
from outlast.execution.exceptions import UNCOUNTED_ERRORS
from outlast.execution.floats import restored
from outlast.execution.gate import Gate
from outlast.execution.in_flight import NULL_REGISTRY, InFlightSlot
from outlast.execution.off_loop import off_loop
from outlast.execution.waits import no_place
from outlast.ledger.effect_identity import IfUnsure, ScopeName, propose
from outlast.ledger.fence import Claim
from outlast.ledger.item_results import ItemResult, ItemResults
from outlast.ledger.ledger import Ledger, Usage, UsageTotals
from outlast.store.calls import StoreCall
from outlast.telemetry import spans
from outlast.telemetry.log_context import log_as

T = TypeVar("T")

# What a beat carries besides the value: seq, version, field names, the said line.
CHECKPOINT_ENVELOPE_BYTES = 1024
STATUS_MESSAGE_CHARS = 200

# How soon an attempt that the mesh holds goes on once it may.
PERMIT_CHECK_S = 0.02


class Context:
    """
    One attempt, as its agent sees it.

    In a plain (not async) agent, wrap the calls that are awaited here:
    `ctx.run_sync(ctx.save(x))`. They raise StaleAttemptError once a later attempt has
    the task.
    """

    _can_ask = True  # a person, about its effects

    # Each item of a batch has a context: what stays as it is here is not written.
    waits_at: Callable[[], str] = staticmethod(no_place)  # a line of the agent's
    _kind: Any = None  # what progress is resumed as
    _status_message = ""
    _in_flight: InFlightSlot = NULL_REGISTRY
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        agent: Agent,
        claim: Claim,
        ledger: Ledger,
        checkpoint: Checkpoint,
        assignment: AttemptInput,
    ) -> None:
        self._agent = agent
        self._claim = claim
        self._ledger = ledger
        self._input = assignment
        self._checkpoint = checkpoint
        self.gate = Gate()
        self.pending_calls = PendingCalls()
        self.progressed_at = time.monotonic()

    @property
    def tenant(self) -> str:
        """
        The tenant of its mission or batch.
        """
        return self._claim.tenant

    @property
    def round(self) -> int:
        """
        The task's round, from 1: it grows by one whenever the task is redone.
        """
        return self._claim.round

    @property
    def redo_reason(self) -> str | None:
        """
        Why the task is redone, in the words of the agent that asked for it, or None.
        """
        return self._input.redo_reason

    @property
    def attempt(self) -> int:
        """
        Its number within the round, from 1.
        """
        return self._claim.attempt

    @property
    def key(self) -> str:
        """
        The same for all attempts of a round: mission, task and round, as one id.
        """
        claim = self._claim
        return str(TaskRoundId(claim.mission, claim.task, claim.round))

    @property
    def route(self) -> str:
        """
        The role as which the task runs: its own, or a fallback.
        """
        return self._agent.role

    # Made when the first one is wanted: most items of batches want none.

    @cached_property
    def _waits(self) -> "set[asyncio.Task[Any]]":
        return set()  # what threads wait for

    @cached_property
    def _save_lock(self) -> asyncio.Lock:
        return asyncio.Lock()  # saves are written in the order of their calls

    @cached_property
    def _write_lock(self) -> asyncio.Lock:
        return asyncio.Lock()

    @cached_property
    def _effects(self) -> Effects:
        permission = permission_of(self._input, self._can_ask)
        return Effects(
            self._claim,
            permission,
            self._ledger,
            self.gate,
            self._write,
            self._count_write,
        )

    @property
    def cancelled(self) -> bool:
        """
        True once the attempt has to end. A plain agent cannot be interrupted: it reads
        this in its loops, from any thread, and returns; that result is not recorded.
        """
        return self.gate.ending

    @tracked
    async def resume(self, kind: type[T], default: T) -> T:
        """
        Return what was saved last in this round, or *default*.

        Call it before the first `save`: progress is written by the type *kind*. What an
        older version of the agent saved goes through its `migrate`.

        :raises CheckpointError: when it cannot be read as *kind*.
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

    @tracked
    async def save(
        self, value: Any, *, durable: bool = False, tokens: int = 0, cost: float = 0.0
    ) -> None:
        """
        Save progress; the next attempt gets it from `resume`.

        :param value: the whole progress, in place of the one before; at most
            `OUTLAST_LARGEST_MB` as JSON.
        :param durable: survive the loss of power, and not only the SIGKILL of the
            process; takes a sync of the disk.
        :param tokens: used since the last save, counted in the same transaction.
        :param cost: likewise, in the unit of the mission's limit.
        :raises BudgetExceededError: when a limit is exceeded with this; it is saved.
        :raises CheckpointError: when `resume` would not return the same value, naming
            the field, or when it is too large.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        async with self._save_lock:
            body = await off_loop(self._encoded, value)
            await self._save(body, durable, Usage(tokens, cost))

    def _encoded(self, quickly: bool, value: Any) -> bytes:
        try:
            body = self._agent.codec.progress(value, self._kind, quickly=quickly)
        except LossyEncodingError as loss:
            raise CheckpointError(f"not saved, for it would be lost: {loss}") from None
        if len(body) > (most := self._ledger.store.largest):
            raise CheckpointError(
                f"progress of {len(body)} bytes is over the cap of {most} "
                "(OUTLAST_LARGEST_MB): store it elsewhere and save where it lies"
            )
        return body

    async def _save(self, body: bytes, durable: bool, used: Usage) -> None:
        inline: JsonValue = None
        blob: str | None = None
        if len(body) > CHECKPOINT_BYTES - CHECKPOINT_ENVELOPE_BYTES:
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
            self._in_flight.save(saved.model_dump_json().encode())
            self._checkpoint = saved
        told = {"outlast.seq": saved.seq, "outlast.bytes": len(body)}
        spans.event("ctx.saved", told)
        if spent is not None:
            self._check_spending(used, spent)

    @tracked
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
        Do *act* once for *key* and *content*, over all attempts, rounds and tasks of
        the mission, and return its result; once it has happened, return that result.

        :param key: what the effect is called, such as `refund:order-17`.
        :param act: `(idempotency_key)` or `(idempotency_key, what_to_send)`, async or
            plain (then in a thread); returns JSON.
        :param content: what makes it this effect (order, recipient, amount), the same
            in every attempt: at most 16 KiB of JSON. None: the key says it all.
        :param payload: what to send, if that is worded anew in each attempt: the first
            one of a round is kept and sent by all; at most 256 KiB. None: the content.
        :param if_unsure: when an earlier attempt died between the effect and its
            record, "repeat" it (the far side honours the idempotency key) or "park" the
            task until a person has looked.
        :param scope: "mission", or "tenant": the key is one for all its missions.
        :raises ApprovalNeededError: when a person must approve it first.
        :raises EffectConflictError: when the key has another content in this round.
        :raises GiveUp: when key, content or payload cannot be kept.
        :raises ParkedError: when a person must look first.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        proposal = propose(key, content, payload, if_unsure, scope)
        return await self._effects.once(proposal, act)

    @tracked
    async def check_budget(self) -> None:
        """
        Check that the mission and the task have budget left, before something is paid.

        :raises BudgetExceededError: when a limit is reached.
        """
        await self.record_usage()

    @tracked
    async def record_usage(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """
        Count what was used against the limits of the mission and of the task.

        :param cost: in the unit of the mission's limit.
        :raises BudgetExceededError: when a limit is exceeded; the usage is counted.
        """
        spent = await self._write(self._ledger.record_usage, tokens, cost)
        self._check_spending(Usage(tokens, cost), spent)

    def _check_spending(self, used: Usage, spent: UsageTotals) -> None:
        told = {"outlast.tokens": used.tokens, "outlast.cost": used.cost}
        spans.event("ctx.usage_recorded", told)
        limits, budget = self._input.limits, self._input.task.budget
        try:
            _require_within("the mission's", spent.mission, limits.tokens, limits.cost)
            _require_within("the task's", spent.task, budget.tokens, budget.cost)
        except BudgetExceededError as signal:
            raise self.gate.end_by(signal) from None

    async def batch_results(self, batch: str) -> AsyncIterator[ItemResult]:
        """
        Read the outcome of each item of *batch* so far, in the order of the items.

        Each has `item` (its number, from 1), `input`, `result`, `degraded` (why it has
        less than was asked, or None) and `dead` (why it has no result, or None).

        :param batch: its id; that of a fan-out is in its task's result.
        :raises OutsideFolderError: when it is another tenant's.
        """
        await self.gate.enter()
        outcomes = ItemResults(self._ledger.store)
        owner = await outcomes.store.run(outcomes.tenant_of, batch)
        if owner not in (None, self.tenant):
            raise OutsideFolderError(f"batch {batch!r} is another tenant's")
        after = 0
        while found := await outcomes.store.run(outcomes.settled_after, batch, after):
            for each in found:
                yield each
            after = found[-1].item

    def emit(self, event: str) -> None:
        """
        Show *event*, up to 200 characters, as the status message of the attempt.

        It counts as progress for `stall_s`. It is sent with the next heartbeat, may be
        lost, and is not kept.
        """
        self.gate.check()
        self._status_message = secrets.masked(event, STATUS_MESSAGE_CHARS)
        self.progressed_at = time.monotonic()

    def service(self, name: str) -> AbstractContextManager[None]:
        """
        Guard calls to the outside service *name*: `with ctx.service("payments"): ...`.

        Errors raised within count as failures of the service. After three in a row its
        circuit opens for 5 to 60 s, for all attempts of the process.

        :raises CircuitOpenError: while it is open: catch it to ask another service;
            otherwise the task takes its next route at once.
        """
        self.gate.check()
        return circuit(secrets.mask(name))  # it is shown, and may be an address

    def secret(self, name: str) -> str:
        """
        Read a secret of this worker: the environment's OUTLAST_SECRET_<NAME>.

        :raises MissingSecretError: when the worker was not given it.
        """
        self.gate.check()
        return secrets.hand_out(name)

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Await a call of the context from a thread: that of a plain agent, or of a plain
        tool that an async agent calls.

        :raises RuntimeError: on the event loop's own thread, which would wait for
            itself.
        """
        if self._loop is None or _running_loop() is self._loop:
            coroutine.close()
            raise RuntimeError(
                "ctx.run_sync was called on the event loop's own thread, which would "
                "wait for itself for ever: await it instead"
            )
        waiting = self._run_coroutine(coroutine)
        return asyncio.run_coroutine_threadsafe(waiting, self._loop).result()

    async def _run_coroutine(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Await what a thread waits for, so that `end` can end it.
        """
        task = asyncio.current_task()
        assert task is not None
        self._waits.add(task)
        try:
            return await coroutine
        finally:
            self._waits.discard(task)

    @property
    def _most_held_s(self) -> float:
        return self._input.policy.max_suspended_s

    @property
    def heartbeat(self) -> Heartbeat:
        """
        The last checkpoint and what was said last, as a heartbeat carries them.
        """
        return Heartbeat(
            checkpoint=self._checkpoint, status_message=self._status_message
        )

    @property
    def is_permitted(self) -> bool:
        """
        Whether the mission may go on here.
        """
        return self._ledger.permits.is_permitted(self._claim.mission)

    async def wait_until_permitted(self) -> None:
        """
        Wait until the mission may go on here; being held is no stall.

        :raises RunSuspendedError: when that takes long: the attempt is handed on.
        """
        since = time.monotonic()
        while not self.is_permitted:
            self.progressed_at = time.monotonic()
            if self.progressed_at - since > self._most_held_s:
                held = RunSuspendedError(
                    f"{self.key}: held, its peer does not say go on"
                )
                raise self.gate.end_by(held)
            await asyncio.sleep(PERMIT_CHECK_S)

    def end(self) -> None:
        """
        Say to the agent that it is to end: by `cancelled`, and by ending what threads
        of it wait for.
        """
        self.gate.ending = True
        self._cancel_waits()

    def close(self) -> None:
        """
        End the attempt's rights: a thread that lives on can write nothing more.
        """
        self.gate.end(f"{self.key}: this attempt is over")
        self._cancel_waits()

    def _cancel_waits(self) -> None:
        for wait in tuple(self.__dict__.get("_waits", ())):
            wait.cancel()

    def name_logs(self) -> None:
        """
        Have what is logged and printed from here on carry the attempt's name.
        """
        log_as(self._claim)

    def set_in_flight(self, hand: InFlightSlot) -> None:
        """
        Say who is to know of every save.
        """
        self._in_flight = hand

    def run_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """
        Say on which event loop `run_sync` has its promises awaited.
        """
        self._loop = loop

    async def _write(self, method: Callable[..., T], *args: Any) -> T:
        await self._require_writable()
        return await self._count_write(method, *args)

    async def _count_write(self, method: Callable[..., T], *args: Any) -> T:
        """
        Write what has happened, also once a signal was raised.
        """
        with self._raising_signals():
            answer = await self._ledger.store.run(method, self._claim, *args)
        self.progressed_at = time.monotonic()
        return answer

    async def _require_writable(self) -> None:
        if not self.is_permitted:
            await self.wait_until_permitted()
        await self.gate.enter()

    @contextmanager
    def _raising_signals(self) -> Iterator[None]:
        """
        Make what the ledger refuses the signal that ends the attempt.
        """
        try:
            yield
        except (StaleAttemptError, *UNCOUNTED_ERRORS) as signal:
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
        await self._write_lock.acquire()
        writing: StoreCall | None = None
        try:
            await self._require_writable()
            writing = self._ledger.store.submit(method, self._claim, *args)
            with self._raising_signals():
                answer: T = await writing.future
        finally:
            if writing is None or not writing.future.cancelled():
                self._write_lock.release()
            else:
                writing.then(self._write_lock.release)
        self.progressed_at = time.monotonic()
        return answer

    async def _saved_body(self) -> bytes:
        blob = self._checkpoint.blob
        if blob is None:
            return json.dumps(self._checkpoint.value).encode()
        whose = (self._claim.mission, self._claim.task)
        store = self._ledger.store
        body = await store.run(self._ledger.get_blob, *whose, blob)
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


def _require_within(
    whose: str, used: Usage, tokens: int | None, cost: float | None
) -> None:
    if tokens is not None and used.tokens > tokens:
        raise BudgetExceededError(f"{used.tokens} tokens used of {whose} {tokens}")
    if cost is not None and used.cost > cost:
        raise BudgetExceededError(f"cost {used.cost:.2f} of {whose} {cost:.2f} spent")
