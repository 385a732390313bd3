"""
The calls of `ctx.once` under way in one attempt: one at a time for a key, and none is
cut off in its act.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from outlast.agents import effect_errors
from outlast.execution.exceptions import failure_of
from outlast.execution.gate import Gate
from outlast.ledger.effect_identity import Proposal


@dataclass(eq=False)
class EffectCall:
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


Perform = Callable[[EffectCall], Awaitable[Any]]

# The calls whose acts this is within.
_outer_calls: ContextVar[tuple[EffectCall, ...]] = ContextVar("within", default=())


class EffectCalls:
    """
    The calls of one attempt, which its *gate* lets finish.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._by_key: dict[tuple[str, str], EffectCall] = {}  # and scope
        self._count = 0  # under way, those within their acts aside
        self._none_left = asyncio.Event()

    async def one_at_a_time(self, proposal: Proposal, perform: Perform) -> Any:
        """
        Have *perform* called when no other call of this attempt is about the same key.
        """
        slot = proposal.scope, proposal.key
        while (first := self._by_key.get(slot)) is not None:
            if first in _outer_calls.get():
                raise effect_errors.nested_in_itself(proposal)
            await first.ended.wait()
            if first.error is not None and first.parks(proposal):
                raise first.error
        call = self._by_key[slot] = EffectCall(proposal)
        doing = asyncio.ensure_future(self._uncancelled(call, perform))
        doing.add_done_callback(retrieve_error)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            if not call.acting:
                doing.cancel()
            raise

    async def _uncancelled(self, call: EffectCall, perform: Perform) -> Any:
        """
        Do what must not be cut off, in a task of its own: when the caller is cancelled,
        by a timeout for instance, an act that has begun is let finish and is recorded.
        """
        with self._gate.acting(), self._counted(1):
            try:
                return await perform(call)
            except (Exception, asyncio.CancelledError) as error:
                call.error = error
                raise
            except BaseException as error:
                # A task that ends by one would end the event loop with it.
                call.error = failure_of(error)
                raise call.error from error
            finally:
                del self._by_key[call.proposal.scope, call.proposal.key]
                call.ended.set()

    @contextmanager
    def within_act(self, call: EffectCall) -> Iterator[None]:
        """
        Know the calls that the act of *call* makes; it is not counted meanwhile: the
        act may wait for one of them in a thread of a pool, where nothing tells that.
        """
        within = _outer_calls.set((*_outer_calls.get(), call))
        try:
            with self._counted(-1):
                yield
        finally:
            _outer_calls.reset(within)

    async def wait_for_others(self) -> None:
        """
        Wait, outside of all acts, until no call is left but in its act.
        """
        if not _outer_calls.get():
            await self._none_left.wait()

    @contextmanager
    def _counted(self, by: int) -> Iterator[None]:
        self._add(by)
        try:
            yield
        finally:
            self._add(-by)

    def _add(self, by: int) -> None:
        self._count += by
        if self._count:
            self._none_left.clear()
        else:
            self._none_left.set()


def retrieve_error(task: "asyncio.Future[Any]") -> None:
    """
    Take note of an error that nobody waits for any more.
    """
    if not task.cancelled():
        task.exception()
