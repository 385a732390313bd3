"""
What an agent is given besides its input: memory that outlives it, and done-once.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cached_property
from typing import Any, TypeVar

from pydantic import JsonValue

from outlast import secrets
from outlast.agents.attempt_control import AttemptControl, round_key
from outlast.agents.effects import Effects, permission_of
from outlast.agents.pending_calls import tracked
from outlast.agents.progress import decode_progress, encode_progress, next_checkpoint
from outlast.agents.service_call import GuardedCall, ServiceTrouble
from outlast.contracts.errors import (
    BudgetExceededError,
    CheckpointError,
    OutsideFolderError,
)
from outlast.execution.codec import off_loop
from outlast.execution.services import ServiceId, Services
from outlast.ledger.circuits import CircuitRecords
from outlast.ledger.effect_identity import IfUnsure, ScopeName, propose
from outlast.ledger.item_results import ItemResult, ItemResults
from outlast.ledger.spending import Usage, UsageTotals
from outlast.store.database import Store
from outlast.telemetry.process import telemetry

T = TypeVar("T")

STATUS_MESSAGE_CHARS = 200


class Context(AttemptControl):
    """
    One attempt, as its agent sees it.

    In a plain (not async) agent, wrap the calls that are awaited here:
    `ctx.run_sync(ctx.save(x))`. They raise StaleAttemptError once a later attempt has
    the task.
    """

    _can_ask = True  # a person, about its effects
    _kind: Any = None  # what progress is resumed as

    @property
    def tenant(self) -> str:
        """
        The tenant of its mission or batch.
        """
        return self.claim.tenant

    @property
    def store(self) -> Store:
        """
        The store of its mission, in which an agent may have tables of its own.
        """
        return self.ledger.agent_store

    @property
    def round(self) -> int:
        """
        The task's round, from 1: it grows by one whenever the task is redone.
        """
        return self.claim.round

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
        return self.claim.attempt

    @property
    def key(self) -> str:
        """
        The same for all attempts of a round: mission, task and round, as one id.
        """
        return round_key(self.claim)

    @property
    def route(self) -> str:
        """
        The role as which the task runs: its own, or a fallback.
        """
        return self._agent.role

    @cached_property
    def _effects(self) -> Effects:
        return Effects(self, permission_of(self._input, self._can_ask))

    @cached_property
    def services(self) -> Services:
        """
        The services that its process asks.
        """
        return Services(CircuitRecords(self.ledger.store))

    @cached_property
    def trouble(self) -> ServiceTrouble:
        """
        What the services have done to the attempt.
        """
        return ServiceTrouble()

    @cached_property
    def _save_lock(self) -> asyncio.Lock:
        return asyncio.Lock()  # saves are written in the order of their calls

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
        return decode_progress(kind, self._agent, self._checkpoint.version, body)

    async def _saved_body(self) -> bytes:
        blob = self._checkpoint.blob
        if blob is None:
            return json.dumps(self._checkpoint.value).encode()
        whose = (self.claim.mission, self.claim.task)
        body = await self.ledger.store.run(self.ledger.get_blob, *whose, blob)
        if body is None:
            raise CheckpointError(f"large progress {blob[:12]} is not in the store")
        return body

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
            largest = self.ledger.store.largest
            body = await off_loop(
                encode_progress, self._agent, value, self._kind, largest
            )
            await self._save(body, durable, Usage(tokens, cost))

    async def _save(self, body: bytes, durable: bool, used: Usage) -> None:
        checkpoint = next_checkpoint(self._checkpoint.seq + 1, self._agent, body)
        apart = body if checkpoint.blob else None
        saved, spent = await self._write_in_turn(
            self.ledger.save, checkpoint, durable, used, apart
        )
        if saved.seq > self._checkpoint.seq:  # or a save beside it was written later
            self.in_flight.save(saved.model_dump_json().encode())
            self._checkpoint = saved
        told = {"outlast.seq": saved.seq, "outlast.bytes": len(body)}
        telemetry.tracer.event("ctx.saved", told)
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
        spent = await self.write(self.ledger.record_usage, tokens, cost)
        self._check_spending(Usage(tokens, cost), spent)

    def _check_spending(self, used: Usage, spent: UsageTotals) -> None:
        told = {"outlast.tokens": used.tokens, "outlast.cost": used.cost}
        telemetry.tracer.event("ctx.usage_recorded", told)
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
        outcomes = ItemResults(self.ledger.store)
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

    def service(self, name: str) -> GuardedCall:
        """
        Guard calls to the outside service *name*: `async with ctx.service("payments")`;
        in a plain agent's thread `with`.

        Failures within that are the service's (5xx, 429, resets, time-outs, refused
        connections, TryLater, ServiceError) are not counted against the task. After
        three in a row, over the whole crew, its circuit opens: nobody calls it but one
        probe at a time, and a task without another route waits until it answers.

        :raises CircuitOpenError: while it is open: catch it to ask another service.
        """
        self.gate.check()
        # It is shown, and may be an address.
        service = ServiceId(self.tenant, secrets.mask(name))
        return GuardedCall(self.services, service, self.trouble, self.run_sync)

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
        if self.loop is None or _running_loop() is self.loop:
            coroutine.close()
            raise RuntimeError(
                "ctx.run_sync was called on the event loop's own thread, which would "
                "wait for itself for ever: await it instead"
            )
        waiting = self._await_for_thread(coroutine)
        return asyncio.run_coroutine_threadsafe(waiting, self.loop).result()


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
