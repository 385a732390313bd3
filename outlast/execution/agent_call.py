"""
One call of an agent's function, and the ways in which it ends.

    it returns or raises          -> that, once what it has begun is done
    a signal of the context       -> the signal, whatever it returned or raised
    no progress for too long      -> StalledError, by the same way
    we are cancelled ourselves    -> CancelledError: by the mission, or a drain

The function runs as a task of its own, a plain one in a thread of its own, so that
nothing it raises or cancels reaches us but through here. (One that never waits has
ended before its task is needed.) What does not end when it has to is left behind: its
context refuses it everything, and its process is replaced.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from outlast.agents.agent import Agent
from outlast.agents.context import Context
from outlast.agents.pending_calls import await_returned, is_returned
from outlast.contracts.errors import RunSuspendedError, StaleAttemptError, TaskError
from outlast.contracts.retries import CANCEL_GRACE_S
from outlast.execution.eager import EagerStarter
from outlast.execution.exceptions import call_converting_exits, failure_of, message_of
from outlast.execution.in_flight import InFlightSlot
from outlast.execution.threads import in_thread
from outlast.execution.tracebacks import no_place, waits_at

# After a signal an agent usually ends by itself, which needs no cancellation of what
# it cleans up; what it asks a person for meanwhile is asked with the rest.
AGENT_LINGER_S = 0.05


class AgentCall:
    """
    A call of *agent* under way, with what its *ctx* allows it.

    :param slot: hears when the call is left behind, and when it has ended after all.
    :param leaked: keeps what was left behind from being collected.
    """

    # Each item of a batch has a call: what stays as it is here is not written.
    _ended = False
    _ending = False
    _leaked = False
    _threaded = False  # a plain function was handed to its thread
    _lingering: asyncio.TimerHandle | None = None
    _task: "asyncio.Task[None] | None" = None  # None where it never waited
    _over: "asyncio.Future[None] | None" = None  # None until somebody waits
    _thread: int | None = None  # of a plain function
    _value: Any = None
    _error: BaseException | None = None

    def __init__(
        self,
        agent: Agent,
        ctx: Context,
        starter: EagerStarter,
        slot: InFlightSlot,
        leaked: set["AgentCall"],
    ) -> None:
        self._agent = agent
        self._ctx = ctx
        self._starter = starter
        self._in_flight = slot
        self._leaked_calls = leaked

    async def result(self, read: Callable[[Agent], Any]) -> Any:
        """
        Await what the agent makes of the input that *read* gives it.

        :raises OutlastError: the signal that has ended it.
        :raises CancelledError: when we are cancelled, and only then.
        """
        if not self._starter.is_ready:
            await self._starter.prepare()
        gate, call = self._ctx.gate, self._call(read)
        loop = asyncio.get_running_loop()
        self._ctx.loop = loop
        gate.watch(loop, self._check)
        self._ctx.waits_at = lambda: waits_at(call, self._thread)
        self._task = self._starter.start(call, self._ctx.name_logs)
        cancelled = False
        if not (self._ended and gate.idle):
            cancelled = await self._wait_until_over()
        by_itself = self._ended
        if cancelled or not (by_itself and gate.idle):
            cancelled |= await self._end()
        if not self._leaked:
            # Both are freed then without the garbage collector.
            gate.unwatch()
            self._ctx.waits_at = no_place
        return self._outcome(cancelled and not by_itself)

    def _outcome(self, cancelled: bool) -> Any:
        if self._ctx.gate.signal is not None:
            raise self._ctx.gate.signal
        if cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            failure = _as_exception(failure_of(self._error))
            raise failure from failure.__cause__
        return self._value

    async def _wait_until_over(self) -> bool:
        self._over = asyncio.get_running_loop().create_future()
        self._check()
        try:
            await self._over
        except asyncio.CancelledError:
            return True
        return False

    async def _call(self, read: Callable[[Agent], Any]) -> None:
        """
        Note what comes of the call, and raise nothing: a task that exits would end the
        event loop, and one that is looked at afterwards costs another turn of it.
        """
        try:
            if not self._ctx.is_permitted:
                await self._ctx.wait_until_permitted()
            if self._ctx.cancelled:  # over while it was held: it must not begin
                raise asyncio.CancelledError
            given = read(self._agent)
            if self._agent.is_async:
                value = await self._agent.func(given, self._ctx)
            else:
                self._threaded = True
                value = await in_thread(self._call_in_thread, given)
            if not is_returned(value, self._ctx.pending_calls):
                value = await await_returned(value, self._ctx.pending_calls)
            self._value = value
        except BaseException as error:
            self._error = error
        self._ended = True
        self._ctx.gate.end("this attempt is over")
        self._check()

    def _call_in_thread(self, given: Any) -> Any:
        self._thread = threading.get_ident()
        if self._ctx.cancelled:
            return None
        return call_converting_exits(self._agent.func, given, self._ctx)

    def _check(self, lingered: bool = False) -> None:
        """
        Set that it is over, if by now it is; where a signal came, once the agent has
        *lingered* and not ended by itself.
        """
        if lingered:
            self._lingering = None
        gate = self._ctx.gate
        quiet = self._ended and gate.idle
        if self._leaked and quiet:
            self._leaked = False
            self._leaked_calls.discard(self)
            self._in_flight.leak_ended()
        if self._over is None or self._over.done():
            return
        closed = gate.closed and not self._ending
        if quiet or (closed and (gate.at_once or lingered)):
            self._over.set_result(None)
        elif closed and self._lingering is None:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(AGENT_LINGER_S, self._check, True)

    async def _end(self) -> bool:
        """
        End the agent, and leave it behind when it does not end in time; True when we
        were cancelled meanwhile.
        """
        self._ending = True
        self._ctx.end()
        stays = self._threaded and not self._agent.is_async
        if self._task is not None and not stays:
            self._task.cancel()
        cancelled = await self._ended_within(CANCEL_GRACE_S)
        if not (self._ended and self._ctx.gate.idle):
            self._leaked = True
            self._leaked_calls.add(self)
            self._in_flight.leak()
        return cancelled

    async def _ended_within(self, limit_s: float) -> bool:
        loop = asyncio.get_running_loop()
        until, cancelled = loop.time() + limit_s, False
        self._over = loop.create_future()
        self._check()
        while not self._over.done() and (left_s := until - loop.time()) > 0:
            try:
                await asyncio.wait([self._over], timeout=left_s)
            except asyncio.CancelledError:
                cancelled = True
        return cancelled


def _as_exception(failure: Exception) -> Exception:
    """
    Make *failure* one of this attempt, whose own context has refused nothing: what
    another one's was refused says nothing of who has the task.
    """
    if not isinstance(failure, StaleAttemptError | RunSuspendedError):
        return failure
    foreign = TaskError(
        f"the agent used the context of another attempt: {message_of(failure)}. It may "
        "do nothing any more: use the one that this call was given"
    )
    foreign.__cause__ = failure
    return foreign
