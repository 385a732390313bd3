"""
Effects: what an agent does to the world, done once.

Intent, act with an idempotency key, record. A crash between the first and the last
leaves the effect unsure, and `if_unsure` decides.
"""

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue, TypeAdapter

from outlast.agents import effect_errors
from outlast.agents.attempt_control import AttemptControl
from outlast.agents.effect_calls import EffectCall, EffectCalls
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import ApprovalNeededError
from outlast.execution.exceptions import call_converting_exits
from outlast.execution.service_failures import was_not_sent
from outlast.execution.threads import in_thread
from outlast.ledger.effect_decision import (
    EffectAction,
    EffectDecision,
    EffectRow,
    Permission,
)
from outlast.ledger.effect_identity import Proposal
from outlast.ledger.effect_ledger import idempotency_key
from outlast.ledger.fence import Retries
from outlast.telemetry.process import telemetry

# How soon the end of an effect that another attempt does is looked for, and at most.
EFFECT_POLL_S = 0.05
MAX_EFFECT_POLL_S = 1.0

ACT_IN_A_THREAD = "in a thread; make it `async def`, or return a coroutine to await"


class Effects:
    """
    The effects of one *attempt*, as far as a person's *permission* goes.
    """

    def __init__(self, attempt: AttemptControl, permission: Permission) -> None:
        self._attempt = attempt
        self._permission = permission
        self._calls = EffectCalls(attempt.gate)

    async def once(self, proposal: Proposal, act: Callable[..., Any]) -> Any:
        """
        Do *act* once for *proposal*: see `Context.once`.
        """
        task = self._attempt.claim.task
        told = {"outlast.task": task, "outlast.effect": proposal.key}
        with telemetry.tracer.span("ctx.once", told):
            try:
                return await self._calls.one_at_a_time(
                    proposal, lambda call: self._decide_and_perform(call, act)
                )
            except ApprovalNeededError:
                # Those that were begun at the same time ask too, or end their acts.
                await self._calls.wait_for_others()
                raise

    async def _decide_and_perform(
        self, call: EffectCall, act: Callable[..., Any]
    ) -> Any:
        """
        Do what the ledger decides.

        :raises OutlastError: the signal by which the attempt ends, where it must.
        """
        proposal, gate = call.proposal, self._attempt.gate
        while True:
            call.acting = True
            found = await self._intend(proposal)
            row = found.row
            telemetry.tracer.describe({"outlast.effect_found": _state_found(found)})
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
        self, call: EffectCall, found: EffectDecision, act: Callable[..., Any]
    ) -> Any:
        """
        Act, and record what came of it: that is what is returned, as it is later.
        """
        proposal, number, ledger = call.proposal, found.number, self._attempt.ledger
        named = idempotency_key(self._attempt.claim, proposal, number)
        sent = proposal.identity if found.payload is None else found.payload
        args = () if sent == "null" else (json.loads(sent),)
        with self._calls.within_act(call):
            try:
                result = await _call_act(act, named, *args)
            except Exception as error:
                # Repeated, it may have happened before.
                if found.action is EffectAction.ACT and was_not_sent(error):
                    await self._attempt.write_happened(ledger.retract, proposal, found)
                raise
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
