"""
An attempt as those who run it see it: what it may still write, and how it is ended.

Its agent sees the same object as its `Context`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from outlast.agents.agent import Agent
from outlast.agents.pending_calls import PendingCalls
from outlast.contracts.attempts import AttemptInput, Checkpoint, Heartbeat
from outlast.contracts.errors import RunSuspendedError, StaleAttemptError
from outlast.contracts.ids import TaskRoundId
from outlast.execution.exceptions import UNCOUNTED_ERRORS
from outlast.execution.gate import Gate
from outlast.execution.in_flight import NULL_SLOT, InFlightSlot
from outlast.execution.tracebacks import no_place
from outlast.ledger.claim import Claim
from outlast.ledger.ledger import Ledger
from outlast.store.calls import StoreCall
from outlast.telemetry.log_context import log_as

T = TypeVar("T")

# How often a suspended attempt looks whether its mission may go on.
PERMIT_CHECK_S = 0.02


class AttemptControl:
    """
    The rights of one attempt. Its writes go to the ledger under its claim; they wait
    while the mesh suspends the mission, and are refused once the attempt is over.
    """

    # Each item of a batch has one: what stays as it is here is not written.
    waits_at: Callable[[], str] = staticmethod(no_place)  # a line of the agent's
    in_flight: InFlightSlot = NULL_SLOT  # hears of every save
    loop: asyncio.AbstractEventLoop | None = None  # on which `run_sync` awaits
    _status_message = ""

    def __init__(
        self,
        agent: Agent,
        claim: Claim,
        ledger: Ledger,
        checkpoint: Checkpoint,
        assignment: AttemptInput,
    ) -> None:
        self.claim = claim
        self.ledger = ledger
        self.gate = Gate()
        self.pending_calls = PendingCalls()
        self.progressed_at = time.monotonic()
        self._agent = agent
        self._input = assignment
        self._checkpoint = checkpoint

    @property
    def heartbeat(self) -> Heartbeat:
        """
        The last checkpoint and status message, as a heartbeat carries them.
        """
        return Heartbeat(
            checkpoint=self._checkpoint, status_message=self._status_message
        )

    def name_logs(self) -> None:
        """
        Have what is logged and printed from here on carry the attempt's name.
        """
        log_as(self.claim)

    @property
    def is_permitted(self) -> bool:
        """
        True while the mesh lets the mission run here.
        """
        return self.ledger.permits.is_permitted(self.claim.mission)

    @property
    def _max_suspended_s(self) -> float:
        return self._input.policy.max_suspended_s

    async def wait_until_permitted(self) -> None:
        """
        Wait until the mission may run here; a suspension is no stall.

        :raises RunSuspendedError: past the policy's limit: the attempt is redispatched.
        """
        since = time.monotonic()
        while not self.is_permitted:
            self.progressed_at = time.monotonic()
            if self.progressed_at - since > self._max_suspended_s:
                held = RunSuspendedError(
                    f"{round_key(self.claim)}: held, its peer does not say go on"
                )
                raise self.gate.end_by(held)
            await asyncio.sleep(PERMIT_CHECK_S)

    async def write(self, method: Callable[..., T], *args: Any) -> T:
        """
        Have the ledger's *method* write with the claim and *args*.

        :raises StaleAttemptError: when a later attempt has the task.
        """
        await self._require_writable()
        return await self.write_happened(method, *args)

    async def write_happened(self, method: Callable[..., T], *args: Any) -> T:
        """
        Write what has happened already, also once a signal was raised.
        """
        with self._raising_signals():
            answer = await self.ledger.store.run(method, self.claim, *args)
        self.progressed_at = time.monotonic()
        return answer

    async def _write_in_turn(self, method: Callable[..., T], *args: Any) -> T:
        """
        Write after all earlier calls, also after one whose caller was cancelled: of
        saves at the same moment the last one is resumed.
        """
        await self._write_lock.acquire()
        writing: StoreCall | None = None
        try:
            await self._require_writable()
            writing = self.ledger.store.submit(method, self.claim, *args)
            with self._raising_signals():
                answer: T = await writing.future
        finally:
            if writing is None or not writing.future.cancelled():
                self._write_lock.release()
            else:
                writing.then(self._write_lock.release)
        self.progressed_at = time.monotonic()
        return answer

    async def _require_writable(self) -> None:
        if not self.is_permitted:
            await self.wait_until_permitted()
        await self.gate.enter()

    @contextmanager
    def _raising_signals(self) -> Iterator[None]:
        """
        Turn what the ledger refuses into the signal that ends the attempt.
        """
        try:
            yield
        except (StaleAttemptError, *UNCOUNTED_ERRORS) as signal:
            raise self.gate.end_by(signal) from None
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as death:  # as tests put one into the ledger
            raise self.gate.end_by(death, at_once=True) from None

    # Made when first used: most items of batches need neither.

    @cached_property
    def _write_lock(self) -> asyncio.Lock:
        return asyncio.Lock()

    @cached_property
    def _thread_waits(self) -> "set[asyncio.Task[Any]]":
        return set()  # what threads wait for in `run_sync`

    async def _await_for_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._thread_waits.add(task)
        try:
            return await coroutine
        finally:
            self._thread_waits.discard(task)

    def end(self) -> None:
        """
        Ask the agent to end: `cancelled` is true, and its threads' waits are cancelled.
        """
        self.gate.ending = True
        self._cancel_waits()

    def close(self) -> None:
        """
        End the attempt's rights: a thread that lives on can write nothing more.
        """
        self.gate.end(f"{round_key(self.claim)}: this attempt is over")
        self._cancel_waits()

    def _cancel_waits(self) -> None:
        for wait in tuple(self.__dict__.get("_thread_waits", ())):
            wait.cancel()


def round_key(claim: Claim) -> str:
    """
    Name the round of *claim*: mission, task and round, as one id.
    """
    return str(TaskRoundId(claim.mission, claim.task, claim.round))
