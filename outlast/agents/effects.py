"""
Effects: what an agent does to the world, done once.

Intent, act with an idempotency key, record. A crash between the first and the last
leaves the effect unsure, and `if_unsure` decides.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue, TypeAdapter

from outlast.agents import effect_errors
from outlast.agents.attempt_control import AttemptControl
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import ApprovalNeededError
from outlast.execution.exceptions import call_converting_exits, failure_of
from outlast.execution.threads import in_thread
from outlast.ledger.effect_decision import EffectAction, EffectDecision, EffectRow
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_ledger import Permission, idempotency_key
from outlast.ledger.fence import Retries
from outlast.telemetry import spans

# How soon the end of an effect that another attempt does is looked for, and at most.
EFFECT_POLL_S = 0.05
MAX_EFFECT_POLL_S = 1.0

ACT_IN_A_THREAD = "in a thread; make it `async def`, or return a coroutine to await"


@dataclass(eq=False)
class _Call:
    """
    A call of `once` under way, and the error with which it has ended.
    """

    proposal: Proposal
    acting: bool = True  # or about to, rather than waiting for another attempt
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None

    def parks(self, proposal: Proposal) -> bool:
        """
        True if *proposal*, which waited for this call, ends by its error: the same
        effect may have happened, and a person must look.
        """
        same = self.proposal.identity == proposal.identity
        failed = isinstance(self.error, Exception)
        return failed and same and proposal.if_unsure == "park"


# The calls whose acts this is within.
_open_calls: ContextVar[tuple[_Call, ...]] = ContextVar("within", default=())


class Effects:
    """
    The effects of one *attempt*, as far as a person's *permission* goes.
    """

    def __init__(self, attempt: AttemptControl, permission: Permission) -> None:
        self._attempt = attempt
        self._permission = permission
        self._acting: dict[tuple[str, str], _Call] = {}  # by scope and key
        self._calls = 0  # under way, those within their acts aside
        self._all_done = asyncio.Event()

    async def once(self, proposal: Proposal, act: Callable[..., Any]) -> Any:
        """
        Do *act* once for *proposal*: see `Context.once`.
        """
        task = self._attempt.claim.task
        told = {"outlast.task": task, "outlast.effect": proposal.key}
        with spans.span("ctx.once", told):
            try:
                return await self._one_at_a_time(proposal, act)
            except ApprovalNeededError:
                if not _open_calls.get():
                    # Those that were begun at the same time ask too, or end their acts.
                    await self._all_done.wait()
                raise

    @contextmanager
    def _counted(self, by: int = 1) -> Iterator[None]:
        self._count(by)
        try:
            yield
        finally:
            self._count(-by)

    def _count(self, by: int) -> None:
        self._calls += by
        if self._calls:
            self._all_done.clear()
        else:
            self._all_done.set()

    @contextmanager
    def _within_act(self, call: _Call) -> Iterator[None]:
        """
        Know the calls that the act of *call* makes; it is not counted meanwhile: the
        act may wait for one of them in a thread of a pool, where nothing tells that.
        """
        within = _open_calls.set((*_open_calls.get(), call))
        try:
            with self._counted(-1):
                yield
        finally:
            _open_calls.reset(within)

    async def _one_at_a_time(self, proposal: Proposal, act: Callable[..., Any]) -> Any:
        """
        Do it when no other call of this attempt is about the same key.
        """
        slot = proposal.scope, proposal.key
        while (first := self._acting.get(slot)) is not None:
            if first in _open_calls.get():
                raise effect_errors.nested_in_itself(proposal)
            await first.ended.wait()
            if first.error is not None and first.parks(proposal):
                raise first.error
        call = self._acting[slot] = _Call(proposal)
        doing = asyncio.ensure_future(self._act_uncancelled(call, act))
        doing.add_done_callback(retrieve_error)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            if not call.acting:
                doing.cancel()
            raise

    async def _act_uncancelled(self, call: _Call, act: Callable[..., Any]) -> Any:
        """
        Do what must not be cut off, in a task of its own: when the caller is cancelled,
        by a timeout for instance, an act that has begun is let finish and is recorded.
        """
        with self._attempt.gate.acting(), self._counted():
            try:
                return await self._decide_and_perform(call, act)
            except (Exception, asyncio.CancelledError) as error:
                call.error = error
                raise
            except BaseException as error:
                # A task that ends by one would end the event loop with it.
                call.error = failure_of(error)
                raise call.error from error
            finally:
                del self._acting[call.proposal.scope, call.proposal.key]
                call.ended.set()

    async def _decide_and_perform(self, call: _Call, act: Callable[..., Any]) -> Any:
        """
        Do what the ledger decides.

        :raises OutlastError: the signal by which the attempt ends, where it must.
        """
        proposal, gate = call.proposal, self._attempt.gate
        while True:
            call.acting = True
            found = await self._intend(proposal)
            row = found.row
            spans.describe({"outlast.effect_found": _state_found(found)})
            match found.action:
                case EffectAction.ACT | EffectAction.REPEAT:
                    return await self._perform(call, found, act)
                case EffectAction.RETURN | EffectAction.SKIP if row is not None:
                    if row.result is None:
                        raise effect_errors.lost_result(proposal)
                    return json.loads(row.result)
                case EffectAction.WAIT if row is not None:
                    call.acting = False
                    await self._await_other(proposal, row)
                case EffectAction.REQUEST_APPROVAL:
                    raise self._approval_error(proposal, found)
                case EffectAction.CONFLICT if row is not None:
                    claim = self._attempt.claim
                    raise gate.end_by(effect_errors.conflict(claim, proposal, row))
                case _:
                    raise gate.end_by(effect_errors.unsure(proposal, row))

    async def _intend(self, proposal: Proposal) -> EffectDecision:
        """
        Have the ledger decide; one that is asked for while the attempt ends to ask a
        person is asked with it.
        """
        ledger, signal = self._attempt.ledger, self._attempt.gate.signal
        if not isinstance(signal, ApprovalNeededError) or signal.full:
            decided: EffectDecision = await self._attempt.write(
                ledger.intend, proposal, self._permission, Retries()
            )
            return decided
        asking, claim = self._permission.asking(), self._attempt.claim
        found = await ledger.store.run(ledger.intend, claim, proposal, asking)
        if found.action is not EffectAction.REQUEST_APPROVAL:
            raise signal
        return found

    async def _perform(
        self, call: _Call, found: EffectDecision, act: Callable[..., Any]
    ) -> Any:
        """
        Act, and record what came of it: that is what is returned, as it is later.
        """
        proposal, number, ledger = call.proposal, found.number, self._attempt.ledger
        named = idempotency_key(self._attempt.claim, proposal, number)
        sent = proposal.identity if found.payload is None else found.payload
        args = () if sent == "null" else (json.loads(sent),)
        with self._within_act(call):
            result = await _call_act(act, named, *args)
        kept: JsonValue = None
        try:
            kept, lost = _as_json(result, ledger.store.largest), False
        except ValueError:
            lost = True  # it has happened, whatever it returned
        await self._attempt.write_happened(
            ledger.applied, proposal, number, kept, lost, Retries()
        )
        if lost:
            raise effect_errors.lost_result(proposal)
        return kept

    async def _await_other(self, proposal: Proposal, row: EffectRow) -> None:
        """
        Wait until the attempt that does the effect *row* has ended it, or itself.
        """
        pause_s = EFFECT_POLL_S
        while await self._attempt.write(self._attempt.ledger.wait_state, proposal, row):
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_EFFECT_POLL_S, pause_s * 1.5)

    def _approval_error(
        self, proposal: Proposal, found: EffectDecision
    ) -> BaseException:
        """
        Have the attempt end to ask a person; returns what to raise.
        """
        signal = self._attempt.gate.end_by(ApprovalNeededError())
        if isinstance(signal, ApprovalNeededError):
            signal.add(effect_errors.wanted(proposal, found))
        return signal


async def _call_act(act: Callable[..., Any], *args: Any) -> Any:
    """
    Call *act*: a plain function in a thread, since a slow one must not hold the event
    loop, which sends the heartbeats of all its neighbours.
    """
    if inspect.iscoroutinefunction(act):
        return await act(*args)
    try:
        result = await in_thread(call_converting_exits, act, *args)
    except RuntimeError as error:
        if "event loop" not in str(error):
            raise
        raise RuntimeError(
            f"{error}: a plain act is called {ACT_IN_A_THREAD}"
        ) from error
    return await result if inspect.isawaitable(result) else result


def _as_json(result: Any, largest: int) -> JsonValue:
    """
    Make what an act has returned what it will be when it is read again.

    :raises ValueError: when it is no JSON, or too large to be kept.
    """
    body = TypeAdapter(Any).dump_json(result)
    if len(body) > largest:
        raise ValueError
    read: JsonValue = json.loads(body)
    return read


def permission_of(assignment: AttemptInput, can_ask: bool) -> Permission:
    """
    Say what a person has allowed the attempt; *can_ask* whether one can be asked more.
    """
    approval = assignment.task.approval
    return Permission(
        needs_approval=approval is not None and approval.before == "effect",
        can_ask=can_ask,
        approved=frozenset(assignment.approved),
        skipped=frozenset(assignment.skipped),
        limit_s=assignment.policy.attempt_limit_s,
    )


def _state_found(found: EffectDecision) -> str:
    if found.row is None or found.action in (
        EffectAction.ACT,
        EffectAction.REQUEST_APPROVAL,
    ):
        return "new"
    return found.row.state


def retrieve_error(task: "asyncio.Future[Any]") -> None:
    """
    Take note of an error that nobody waits for any more.
    """
    if not task.cancelled():
        task.exception()
