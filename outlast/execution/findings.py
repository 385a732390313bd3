"""
What a trial of an agent sees of mistakes that only show when something fails.

Used by `outlast.testing` and `crashtest`, never in production: the agent is given a
context that notes what is done with it.
"""

import asyncio
import linecache
import re
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, Self

from outlast.agents.agent import Agent
from outlast.agents.agent_function import is_async
from outlast.agents.context import Context
from outlast.agents.user_code import is_ours, is_users
from outlast.contracts.errors import (
    BudgetExceededError,
    CheckpointError,
    ParkedError,
    RunSuspendedError,
    StaleAttemptError,
)
from outlast.execution.tracebacks import frame_of_thread

# What the context raises to end an attempt, whatever the agent makes of it.
SIGNALS = (BudgetExceededError, RunSuspendedError, ParkedError, StaleAttemptError)

# For how long an async agent may keep its event loop from all its neighbours.
BLOCKED_WARNING_S = 0.5
BLOCK_CHECK_S = 0.02

_CALL_NAME = re.compile(r"([A-Za-z_][\w.]*)\(")


class AgentFindings:
    """
    Mistakes of one agent, a sentence each, in the order in which they were seen.
    """

    def __init__(self, agent: Agent, blocked_s: float = BLOCKED_WARNING_S) -> None:
        self.sentences: list[str] = []
        self.agent = self._watched(agent)
        self._role = agent.role
        self._blocked_s = blocked_s
        self._signals: list[BaseException] = []
        self._signalled: set[Any] = set()  # tasks that were raised one
        self._continued = False
        self._has_ended = threading.Event()

    def note(self, sentence: str) -> None:
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    async def __aenter__(self) -> Self:
        self._has_ended.clear()
        self._seen = time.monotonic()
        self._ticking = asyncio.ensure_future(self._tick())
        ident = threading.get_ident()
        self._checker = threading.Thread(
            target=self._check_blocked, args=(ident,), daemon=True
        )
        self._checker.start()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._has_ended.set()
        self._checker.join()
        self._ticking.cancel()

    def _watched(self, agent: Agent) -> Agent:
        """
        Have *agent* given a context that notes what is done with it.
        """

        @wraps(agent.func)
        def watch_plain(given: Any, ctx: Context) -> Any:
            with self._watching_end():
                return agent.func(given, _WatchedContext.of(ctx, self))

        @wraps(agent.func)
        async def watch_async(given: Any, ctx: Context) -> Any:
            with self._watching_end():
                return await agent.func(given, _WatchedContext.of(ctx, self))

        watched = replace(agent, func=watch_async if agent.is_async else watch_plain)
        # As declared: what wraps a function is not asked for its types.
        vars(watched).update(is_async=agent.is_async, input=agent.input)
        return watched

    def call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **named: Any) -> Any:
            self._called(_line(_users(sys._getframe(1))))
            return self._awaited(method(*args, **named))

        return noting

    async def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except SIGNALS as signal:
            self._signals.append(signal)
            self._signalled.add(asyncio.current_task())
            raise
        except CheckpointError as loss:
            self.note(f"a save was refused: {loss}")
            raise

    def _called(self, place: str) -> None:
        try:
            went_on = asyncio.current_task() in self._signalled
        except RuntimeError:  # a plain agent's thread
            went_on = bool(self._signals)
        if went_on:
            self._swallowed(place)

    @contextmanager
    def _watching_end(self) -> Iterator[None]:
        """
        Note an agent's function that ends without the signal that it was raised.
        """
        try:
            yield
        except asyncio.CancelledError:
            raise
        except BaseException as end:
            if self._signals and not _contains(end, self._signals[0]):
                self._swallowed("its end")
            raise
        if self._signals:
            self._swallowed("its end")

    def _swallowed(self, place: str) -> None:
        if self._continued:
            return  # where it went on first is what is to be mended
        self._continued = True
        signal = self._signals[0]
        self.note(
            f"{self._role} caught {type(signal).__name__} ({signal}) and went on to "
            f"{place}: the attempt ends by it all the same, so let it pass, as "
            "`except Exception` does not unless it raises again"
        )

    async def _tick(self) -> None:
        while True:
            self._seen = time.monotonic()
            await asyncio.sleep(BLOCK_CHECK_S)

    def _check_blocked(self, thread: int) -> None:
        """
        Watch the loop from a thread, and sample its stack while it is blocked.
        """
        blocker, seen = "", 0.0
        while not self._has_ended.wait(BLOCK_CHECK_S):
            blocked_s = time.monotonic() - self._seen
            if blocked_s > self._blocked_s and not blocker:
                blocker, seen = _blocker(frame_of_thread(thread)), self._seen
            elif blocker and self._seen != seen:
                self._blocked(blocker, self._seen - seen)
                blocker = ""
        if blocker:
            self._blocked(blocker, max(self._seen, time.monotonic()) - seen)

    def _blocked(self, blocker: str, seconds: float) -> None:
        self.note(
            f"{self._role} blocked its event loop for {seconds:.1f} s in {blocker}: "
            "make the agent a plain `def`, await an async client, or use "
            "`await asyncio.to_thread(...)`"
        )


class _WatchedContext(Context):
    """
    The attempt's own context under another class: its state is the same.
    """

    _findings: AgentFindings

    @classmethod
    def of(cls, ctx: Context, findings: AgentFindings) -> "_WatchedContext":
        made = cls.__new__(cls)
        made.__dict__ = ctx.__dict__
        made._findings = findings
        return made

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not is_async(found):
            return found
        if not is_ours(sys._getframe(1).f_code.co_filename):
            return super().__getattribute__("_findings").call(found)
        return found


def _contains(end: BaseException, signal: BaseException) -> bool:
    if end is signal:
        return True
    if isinstance(end, BaseExceptionGroup):
        return any(_contains(each, signal) for each in end.exceptions)
    inner = end.__cause__ or end.__context__
    return inner is not None and _contains(inner, signal)


def _users(frame: FrameType | None) -> FrameType | None:
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _line(frame: FrameType | None) -> str:
    if frame is None:
        return "a library"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _blocker(frame: FrameType | None) -> str:
    users = _users(frame)
    if users is None:
        return "a library"
    source = linecache.getline(users.f_code.co_filename, users.f_lineno)
    called = _CALL_NAME.search(source)
    name = called[1] if called else users.f_code.co_name
    return f"`{name}` ({_line(users)}, in {users.f_code.co_name})"
