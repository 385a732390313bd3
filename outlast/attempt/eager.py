"""
Tasks whose first step runs at once.

Most items of a batch end without ever waiting: with a task made for each, and the two
turns of the event loop that it takes, they would cost three times as much. Python has
such tasks from 3.12 on; this uses what asyncio documents for tasks of third parties.
"""

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

Step = Coroutine[Any, Any, None]


class Starter:
    """
    Starts coroutines that raise nothing, one after another, each in a task and a
    context of its own. To be closed.
    """

    def __init__(self) -> None:
        self._spare: Spare | None = None

    async def start(self, step: Step) -> "asyncio.Task[None] | None":
        """
        Run *step* until it waits for the first time; returns the task that goes on with
        it, None when it has ended by then.
        """
        spare = self._spare
        if spare is None:
            self._spare = spare = Spare()
            try:
                await asyncio.sleep(0)  # it begins
            except asyncio.CancelledError:
                step.close()
                raise
        if not spare.ends(step):
            self._spare = None
            return spare.task
        if not spare.is_untouched:
            self.close()
        return None

    def close(self) -> None:
        """
        Let go of the task that is kept for the next one.
        """
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None


class Spare:
    """
    A task without work, which is the current one during the first step of its work.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._outer = self._context = contextvars.copy_context()
        self._step: Step | None = None
        self._waits_for: Any = None
        self._wanted = self._loop.create_future()
        self.task = self._loop.create_task(self._work(), context=self._context)

    @property
    def is_untouched(self) -> bool:
        """
        Whether its work has left nothing behind: no cancellation, no context variable.
        """
        cancelled = self.task.cancelling() or self._wanted.done()
        return not cancelled and self._context == self._outer

    def ends(self, step: Step) -> bool:
        """
        Run *step* until it waits, which the task goes on with; True when it has ended.
        """
        self._take_context()
        outer = asyncio.current_task()
        assert outer is not None
        _leave_task(self._loop, outer)
        _enter_task(self._loop, self.task)
        try:
            self._waits_for = self._context.run(step.send, None)
        except StopIteration:
            return True
        finally:
            _leave_task(self._loop, self.task)
            _enter_task(self._loop, outer)
        self._step = step
        if not self._wanted.done():  # cancelled by the step itself
            self._wanted.set_result(None)
        return False

    def _take_context(self) -> None:
        """
        Have the context variables of whoever starts the step.
        """
        self._outer = contextvars.copy_context()
        for variable, value in self._outer.items():
            if self._context.get(variable) is not value:
                self._context.run(variable.set, value)

    async def _work(self) -> None:
        try:
            await self._wanted
        except asyncio.CancelledError as error:
            if self._step is None:
                raise
            await _rest_of(self._step, self._waits_for, error)
        else:
            assert self._step is not None
            await _rest_of(self._step, self._waits_for)


@coroutine
def _rest_of(
    step: Step, waits_for: Any, cancelled: asyncio.CancelledError | None = None
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
