"""
One attempt of one task, from its claim to its recorded result.

It knows nothing of Temporal: its caller says how a heartbeat is sent and what to do
with what it raises. Nothing is reported that is not in the ledger first.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from outlast.agents.agent import Agent
from outlast.agents.agent_check import requests_work, require_valid_follow_ups
from outlast.agents.context import Context
from outlast.agents.registry import registered_agents
from outlast.agents.service_call import ServiceTrouble
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.batches import Batch
from outlast.contracts.errors import GiveUp, StalledError
from outlast.contracts.failures import Detector
from outlast.contracts.ids import FanOutId
from outlast.contracts.results import FanOut, FanOutRef, ResultRef
from outlast.execution.agent_call import AgentCall
from outlast.execution.codec import off_loop
from outlast.execution.eager import EagerStarter
from outlast.execution.in_flight import (
    NULL_SLOT,
)
from outlast.execution.results import encode_item, result_ref, without_stored_inputs
from outlast.execution.run_order import in_run_order
from outlast.execution.switch_interval import short_switch_interval
from outlast.execution.task_input import read_input, read_needs
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.attempt_order import AttemptOrder
from outlast.ledger.claim import Claim
from outlast.ledger.items import with_digests
from outlast.ledger.payloads import putting
from outlast.telemetry import semconv
from outlast.telemetry.log_context import log_as
from outlast.telemetry.process import Attributes, telemetry

# The failure of an attempt that the server retries, where others carry a cause.
FAILED_BEFORE = "the attempt before failed"


class Attempt:
    """
    One attempt of *assignment* by *agent*, with the right to write given by *fence*.
    """

    def __init__(
        self,
        agent: Agent,
        attempt_input: AttemptInput,
        fence: int | AttemptOrder,
        worker: WorkerContext,
        send: Callable[[Heartbeat], None] = lambda _: None,
    ) -> None:
        self.agent = agent
        self.input = attempt_input
        self.fence = fence
        self.worker = worker
        self.claim: Claim | None = None
        self.checkpoint = Checkpoint()
        self.in_flight = NULL_SLOT
        self.retried = False  # by the server: the attempt before it has raised
        self.trouble = ServiceTrouble()
        self._send = send
        self._ctx: Context | None = None  # while the agent is at work

    async def run(self, carried: list[Checkpoint]) -> ResultRef:
        """
        Do the task, going on from the newest of the *carried* and saved checkpoints.

        :raises StaleAttemptError: when a later attempt has the task.
        :raises TaskError: what the agent said, or that it stalled.
        """
        # An end before the claim hands on what came with the task, too.
        self.checkpoint = max(
            carried, key=lambda each: each.seq, default=self.checkpoint
        )
        self.worker.require_same_store(self.input.store)
        # From before the claim to the recorded result: a store that is away at either
        # end must not make the attempt look lost.
        heartbeats = asyncio.ensure_future(self._heartbeat_loop())
        try:
            return await self._run(carried)
        finally:
            heartbeats.cancel()

    async def _run(self, carried: list[Checkpoint]) -> ResultRef:
        ledger, store = self.worker.ledger, self.worker.ledger.store
        if self.retried:
            given = self.input
            with self.trouble.noting(given.tenant):
                await self.worker.service_waits.require_service(
                    given.mission, given.tenant, given.task.id
                )
        with short_switch_interval():
            start = await in_run_order(
                ledger,
                self.fence,
                self.input.mission,
                lambda: ledger.begin(self.input, self.agent.role, self.fence, carried),
            )
        self.claim, self.checkpoint = start.claim, start.checkpoint
        log_as(start.claim)
        told = self._record_start(start.claim)
        if start.answer is not None:
            return start.answer
        if self.checkpoint.seq:
            self.in_flight.save(self.checkpoint.model_dump_json().encode())
        try:
            with telemetry.tracer.span(
                f"{semconv.INVOKE_AGENT} {self.agent.role}", told
            ):
                value = await self._run_agent(start.claim)
            return await self._record(start.claim, value)
        finally:
            if self.checkpoint.blob is not None:
                store.shrink_soon()

    async def _record(self, claim: Claim, value: Any) -> ResultRef:
        """
        Record what the agent returned; returns the answer that travels.

        :raises GiveUp: when it asks for what cannot be had.
        :raises ResultError: when it cannot be kept.
        """
        ledger, store = self.worker.ledger, self.worker.ledger.store
        if requests_work(value):
            await store.run(require_valid_follow_ups, value, registered_agents())
        if isinstance(value, FanOut):
            return await store.run(self._store_fan_out, claim, value)
        answer, result = await off_loop(self._encode_result, claim, value)
        answer, inputs = without_stored_inputs(answer, self.input, store.largest)
        keep = putting(self.input.mission, inputs)
        await store.run(ledger.record_text, claim, answer, result, keep)
        return answer

    def _record_start(self, claim: Claim) -> Attributes:
        """
        Describe whose attempt this is and what it recovers from in the current span;
        returns the attributes of its agent's call.
        """
        whose = semconv.attempt_attributes(claim, self.agent.role, self.checkpoint.seq)
        asked = self.input
        detected_by = Detector.FAILURE if self.retried else asked.detected_by
        if detected_by and claim.recovery_s is not None:
            failure = FAILED_BEFORE if self.retried else asked.previous_failure
            telemetry.counters.recovered(detected_by, claim.recovery_s)
            whose["outlast.detected_by"] = detected_by
            whose["outlast.previous_failure"] = failure or ""
            whose["outlast.recovery_s"] = claim.recovery_s
        telemetry.tracer.describe(whose)
        return {
            **whose,
            **semconv.invoke_attributes(self.agent.role, self.agent.version),
        }

    def _store_fan_out(self, claim: Claim, spread: FanOut) -> ResultRef:
        """
        Record the fan-out, with its items where the pool finds them.

        :raises GiveUp: when their effects would happen without being asked for.
        :raises StaleAttemptError: when a later attempt has the task.
        """
        approval = self.input.task.approval
        if approval is not None and approval.before == "effect":
            raise GiveUp("a task whose effects a person must approve may not spread")
        task = self.input.task.id
        name = str(FanOutId(self.input.mission, task, self.input.round))
        largest = self.worker.ledger.store.largest
        rows = with_digests((encode_item(each, largest), None) for each in spread.items)
        scope = claim.logical.within(task, self.input.round)
        batch = Batch(id=name, role=spread.role, tenant=claim.tenant, scope=scope)
        made = FanOutRef(batch=name, role=spread.role, items=len(rows))
        answer, result = self._encode_result(False, claim, made)
        answer = answer.model_copy(update={"fan_out": made})
        self.worker.ledger.record_fan_out(claim, answer, result, batch, rows)
        return answer

    async def _run_agent(self, claim: Claim) -> Any:
        ledger, assignment = self.worker.ledger, self.input
        ctx = Context(self.agent, claim, ledger, self.checkpoint, assignment)
        ctx.in_flight = self.in_flight
        ctx.services, ctx.trouble = self.worker.services, self.trouble
        self._ctx = ctx
        starter = EagerStarter()
        try:
            needed = await read_needs(ledger, assignment)
            given = await read_input(ledger, assignment.task)
            call = AgentCall(
                self.agent, ctx, starter, self.in_flight, self.worker.leaked
            )
            return await call.result(lambda agent: agent.read(given, needed))
        finally:
            self._ctx = None
            starter.close()
            self.checkpoint = ctx.heartbeat.checkpoint
            ctx.close()

    def heartbeat(self) -> None:
        self._send(Heartbeat(checkpoint=self.checkpoint))

    async def _heartbeat_loop(self) -> None:
        """
        Send heartbeats while the event loop lives; end the agent when it makes no
        progress.
        """
        stall_s = self.input.policy.stall_s
        while True:
            if (ctx := self._ctx) is None:
                self.heartbeat()
            else:
                self._send(ctx.heartbeat)
                if self.worker.ledger.store.calls.is_waiting:
                    ctx.progressed_at = time.monotonic()
                if time.monotonic() - ctx.progressed_at > stall_s:
                    stalled = StalledError.after(stall_s, ctx.waits_at())
                    ctx.gate.end_by(stalled, at_once=True)
            await asyncio.sleep(self.worker.heartbeat_s)

    def _encode_result(
        self, quickly: bool, claim: Claim, value: Any
    ) -> tuple[ResultRef, str]:
        largest = self.worker.ledger.store.largest
        return result_ref(quickly, value, claim.attempt, self.agent.codec, largest)
