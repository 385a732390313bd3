"""
Effects: what an agent does to the world, done once.

Intent, act with an idempotency key, record. A crash between the first and the last
leaves the effect unsure, and `if_unsure` decides.
"""

import asyncio
import inspect
import json
import shlex
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue, TypeAdapter

from outlast.contracts.approvals import wanted_effect
from outlast.contracts.errors import (
    ApprovalNeededError,
    EffectConflictError,
    GiveUp,
    ParkedError,
    ResultError,
)
from outlast.contracts.models import AttemptInput
from outlast.execution.exceptions import call_converting_exits, failure_of
from outlast.execution.gate import Gate
from outlast.execution.threads import in_thread
from outlast.ledger.effect_decision import (
    APPLIED,
    INTENDED,
    EffectAction,
    EffectDecision,
    EffectRow,
)
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_ledger import Permission, idempotency_key
from outlast.ledger.fence import Claim, Retries
from outlast.ledger.ledger import Ledger
from outlast.secrets import masked, masked_head
from outlast.telemetry import spans

# Runs a method of the ledger with the claim and what else it takes.
Write = Callable[..., Awaitable[Any]]

# How soon the end of an effect that another attempt does is looked for, and at most.
EFFECT_POLL_S = 0.05
MAX_EFFECT_POLL_S = 1.0
EFFECT_CHARS = 80

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


# The calls whose acts this is within.
_open_calls: ContextVar[tuple[_Call, ...]] = ContextVar("within", default=())


class Effects:
    """
    The effects of one attempt.

    :param write: has the ledger write, under the attempt's claim.
    :param note: the same for what has happened, also once a signal was raised.
    """

    def __init__(
        self,
        claim: Claim,
        permission: Permission,
        ledger: Ledger,
        gate: Gate,
        write: Write,
        note: Write,
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._gate = gate
        self._write = write
        self._count_write = note
        self._calls = 0
        self._all_done = (
            asyncio.Event()
        )  # no call is under way but in its act, which may wait for us
        self._permission = permission
        self._acting: dict[tuple[str, str], _Call] = {}  # by scope and key

    async def once(self, proposal: Proposal, act: Callable[..., Any]) -> Any:
        """
        Do *act* once for *proposal*: see `Context.once`.
        """
        told = {"outlast.task": self._claim.task, "outlast.effect": proposal.key}
        with spans.span("ctx.once", told):
            try:
                return await self._one_at_a_time(proposal, act)
            except ApprovalNeededError:
                if not _open_calls.get():
                    # Those that were begun at the same time ask too, or end their acts.
                    await self._all_done.wait()
                raise

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    @contextmanager
    def _within_act(self, call: _Call) -> Iterator[None]:
        """
        Know the calls that the act of *call* makes; it is not counted meanwhile: the
        act may wait for one of them in a thread of a pool, where nothing tells that.
        """
        within = _open_calls.set((*_open_calls.get(), call))
        self._count(-1)
        try:
            yield
        finally:
            self._count(1)
            _open_calls.reset(within)

    def _count(self, more: int) -> None:
        self._calls += more
        if self._calls:
            self._all_done.clear()
        else:
            self._all_done.set()

    async def _one_at_a_time(self, proposal: Proposal, act: Callable[..., Any]) -> Any:
        """
        Do it when no other call of this attempt is about the same key.
        """
        slot = proposal.scope, proposal.key
        while (first := self._acting.get(slot)) is not None:
            if first in _open_calls.get():
                raise GiveUp(
                    f"effect {_short(proposal)} asks for itself within its own act, "
                    "whose end it would wait for: give the inner one another key"
                )
            await first.ended.wait()
            same = first.proposal.identity == proposal.identity
            if (
                isinstance(first.error, Exception)
                and same
                and _parks_if_unknown(proposal)
            ):
                # It may have happened: what the first caller was told is true here too.
                raise first.error
        call = self._acting[slot] = _Call(proposal)
        doing = asyncio.ensure_future(self._act_uncancelled(call, act))
        doing.add_done_callback(_ignore_result)
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
        with self._gate.acting(), self._counted():
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
        proposal = call.proposal
        while True:
            call.acting = True
            found = await self._intend(proposal)
            row = found.row
            spans.describe({"outlast.effect_found": _describe_decision(found)})
            match found.action:
                case EffectAction.ACT | EffectAction.REPEAT:
                    return await self._perform(call, found, act)
                case EffectAction.RETURN | EffectAction.SKIP if row is not None:
                    return _returned(proposal, row)
                case EffectAction.WAIT if row is not None:
                    call.acting = False
                    await self._await_other(proposal, row)
                case EffectAction.REQUEST_APPROVAL:
                    raise self._approval_error(proposal, found)
                case EffectAction.CONFLICT if row is not None:
                    why = self._conflict(proposal, row)
                    raise self._gate.end_by(EffectConflictError(why))
                case _:
                    raise self._gate.end_by(ParkedError(_unknown_effect(proposal, row)))

    async def _intend(self, proposal: Proposal) -> EffectDecision:
        """
        Have the ledger decide; one that is asked for while the attempt ends to ask a
        person is asked with it.
        """
        signal = self._gate.signal
        if not isinstance(signal, ApprovalNeededError) or signal.full:
            decided: EffectDecision = await self._write(
                self._ledger.intend, proposal, self._permission, Retries()
            )
            return decided
        asking = self._permission.asking()
        store, ledger = self._ledger.store, self._ledger
        found = await store.run(ledger.intend, self._claim, proposal, asking)
        if found.action is not EffectAction.REQUEST_APPROVAL:
            raise signal
        return found

    async def _perform(
        self, call: _Call, found: EffectDecision, act: Callable[..., Any]
    ) -> Any:
        """
        Act, and record what came of it: that is what is returned, as it is later.
        """
        proposal = call.proposal
        named = idempotency_key(self._claim, proposal, found.number)
        sent = proposal.identity if found.payload is None else found.payload
        args = () if sent == "null" else (json.loads(sent),)
        with self._within_act(call):
            result = await self._act(act, named, *args)
        applied, number = self._ledger.applied, found.number
        try:
            kept: JsonValue = json.loads(self._encoded(result))
        except ValueError:
            # It has happened, whatever it returned: that is what must be known.
            await self._count_write(applied, proposal, number, None, True, Retries())
            raise _lost(proposal) from None
        await self._count_write(applied, proposal, number, kept, False, Retries())
        return kept

    def _encoded(self, result: Any) -> bytes:
        """
        Write what an act has returned.

        :raises ValueError: when it is no JSON, or too large to be kept.
        """
        body = TypeAdapter(Any).dump_json(result)
        if len(body) > self._ledger.store.largest:
            raise ValueError
        return body

    async def _await_other(self, proposal: Proposal, row: EffectRow) -> None:
        """
        Wait until the attempt that does the effect *row* has ended it, or itself.
        """
        pause_s = EFFECT_POLL_S
        while await self._write(self._ledger.wait_state, proposal, row):
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_EFFECT_POLL_S, pause_s * 1.5)

    def _approval_error(
        self, proposal: Proposal, found: EffectDecision
    ) -> BaseException:
        """
        Have the attempt end to ask a person; returns what to raise.
        """
        signal = self._gate.end_by(ApprovalNeededError())
        if isinstance(signal, ApprovalNeededError):
            row = found.row
            wanted = wanted_effect(
                masked_head(proposal.key),
                masked_head(proposal.identity),
                found.mark,
                "" if row is None else masked_head(row.identity),
                row is not None and row.is_applied,
            )
            signal.add(wanted)
        return signal

    def _conflict(self, proposal: Proposal, row: EffectRow) -> str:
        claim = self._claim
        did = {APPLIED: "done", INTENDED: "begun"}.get(row.state, "asked for")
        theirs, ours = (
            masked(each, EFFECT_CHARS) for each in (row.identity, proposal.identity)
        )
        return (
            f"effect {_short(proposal)} was {did} by {row.mission}/{row.task} (round "
            f"{row.turn}, attempt {row.attempt}) with content {theirs}; "
            f"{claim.mission}/{claim.task} (round {claim.logical.turn(claim.round)}, "
            f"attempt {claim.attempt}) wants it with {ours}: give another effect "
            "another key"
        )

    async def _act(self, act: Callable[..., Any], *args: Any) -> Any:
        """
        Call *act*: a plain function in a thread, since a slow one must not hold the
        event loop, whose heartbeats are those of all its neighbours.
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


def _returned(proposal: Proposal, row: EffectRow) -> JsonValue:
    if row.result is None:
        raise _lost(proposal)
    kept: JsonValue = json.loads(row.result)
    return kept


def _lost(proposal: Proposal) -> ResultError:
    return ResultError(
        f"effect {_short(proposal)} has happened and returned what is no JSON, or too "
        "large, which cannot be kept: have its act return plain values; where none is "
        "needed, catch this error and go on"
    )


def _parks_if_unknown(proposal: Proposal) -> bool:
    return proposal.if_unsure == "park"


def _describe_decision(found: EffectDecision) -> str:
    row = found.row
    known = (
        found.action not in (EffectAction.ACT, EffectAction.REQUEST_APPROVAL)
        and row is not None
    )
    return row.state if known and row is not None else "new"


def _short(proposal: Proposal) -> str:
    return repr(masked(proposal.key, EFFECT_CHARS))


def _unknown_effect(proposal: Proposal, row: EffectRow | None) -> str:
    key, named = _short(proposal), shlex.quote(masked(proposal.key, 2 * EFFECT_CHARS))
    who = "" if row is None else f" by {row.mission}/{row.task}, attempt {row.attempt}"
    return (
        f"effect {key} was begun{who} and may have happened: find out, then "
        f"outlast settle {named} --happened RESULT, or --did-not-happen"
    )


def _ignore_result(doing: "asyncio.Future[Any]") -> None:
    """
    Take note of how an effect has ended whose caller was cancelled.
    """
    if not doing.cancelled():
        doing.exception()
