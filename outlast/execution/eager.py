"""
Tasks whose first step runs at once.

Most items of a batch end without ever waiting: with a task made for each, and the two
turns of the event loop that it takes, they would cost three times as much. Python has
such tasks from 3.12 on; this uses what asyncio promises to tasks of third parties.
"""

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

Step = Coroutine[Any, Any, None]
Enter = Callable[[], object]


class EagerStarter:
    """
    Starts coroutines that raise nothing, one after another, each in a task and a
    context of its own. To be closed.
    """

    def __init__(self) -> None:
        self._reusable: ReusableTask | None = None

    @property
    def is_ready(self) -> bool:
        """
        True if there is a task with the context variables of its caller.
        """
        return self._reusable is not None and self._reusable.has_context_of_caller

    async def prepare(self) -> None:
        self.close()
        self._reusable = ReusableTask()
        await asyncio.sleep(0)  # it begins

    def start(self, step: Step, enter: Enter) -> "asyncio.Task[None] | None":
        """
        Run *step* until it waits for the first time; returns the task that goes on with
        it, None when it has ended by then. To be called when `is_ready`.

        :param enter: called before it; sets context variables, each time the same ones.
        """
        spare = self._reusable
        assert spare is not None
        if not spare.run_step(step, enter):
            self._reusable = None
            return spare.task
        if spare.is_touched:
            self.close()
        return None

    def close(self) -> None:
        if self._reusable is not None:
            self._reusable.task.cancel()
            self._reusable = None


class ReusableTask:
    """
    A task without work, which is the current one during the first step of its work.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outer = contextvars.copy_context()
        self._context = contextvars.copy_context()
        self._step: Step | None = None
        self._waits_for: Any = None
        self.is_touched = False
        self._wanted = self._loop.create_future()
        self.task = self._loop.create_task(self._work(), context=self._context)

    @property
    def has_context_of_caller(self) -> bool:
        # Contexts that nothing was set in since one was copied are quickly compared.
        return _same(contextvars.copy_context(), self._outer)

    def run_step(self, step: Step, enter: Enter) -> bool:
        """
        Run *step* until it waits, which the task goes on with; True when it has ended,
        and then `is_touched` says whether it has left something behind: a cancellation
        or a context variable.
        """
        outer = asyncio.current_task()
        assert outer is not None
        _leave_task(self._loop, outer)
        _enter_task(self._loop, self.task)
        try:
            waits = self._context.run(self._begins, step, enter)
        finally:
            _leave_task(self._loop, self.task)
            _enter_task(self._loop, outer)
        if not waits:
            return True
        self._step = step
        if not self._wanted.done():  # cancelled by the step itself
            self._wanted.set_result(None)
        return False

    def _begins(self, step: Step, enter: Enter) -> bool:
        enter()
        began = contextvars.copy_context()
        try:
            self._waits_for = step.send(None)
        except StopIteration:
            cancelled = self.task.cancelling() or self._wanted.done()
            alike = _same(contextvars.copy_context(), began)
            self.is_touched = bool(cancelled) or not alike
            return False
        return True

    async def _work(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        try:
            await self._wanted
        except asyncio.CancelledError as error:
            if self._step is None:
                raise
            cancelled = error
        assert self._step is not None
        await _rest_of(self._step, self._waits_for, cancelled)


def _same(one: contextvars.Context, other: contextvars.Context) -> bool:
    """
    Compare two contexts, at once where one is a copy of the other; False where values
    of users' variables cannot be compared.
    """
    try:
        return one == other
    except Exception:
        return False


@coroutine
def _rest_of(
    step: Step, waits_for: Any, cancelled: asyncio.CancelledError | None
) -> Generator[Any, Any, None]:
    """
    Go on with *step*, which waits for something, as `await` would have from its
    beginning; *cancelled* before it could.
    """
    error: BaseException | None = None
    if cancelled is not None and not (waits_for is not None and waits_for.cancel()):
        error = cancelled
    while True:
        sent = None
        if error is None:
            try:
                sent = yield waits_for
            except BaseException as thrown:
                error = thrown
        try:
            waits_for = step.send(sent) if error is None else step.throw(error)
        except StopIteration:
            return
        error = None
