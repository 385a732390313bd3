"""
What each worker process opens for its agents: once, before it polls.

A client made at import would be shared by all processes that are forked later, or be
bound to an event loop that has ended. One made here is the process's own.
"""

import inspect
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Generic, TypeVar, cast, overload

from outlast.agents.importing import error_place, error_sentence
from outlast.contracts.errors import BadInputError, WorkerStartError

T = TypeVar("T")


class PerProcess(Generic[T]):
    """
    What a function under `@on_worker_start` has returned in this process, as `value`.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._value: list[T] = []
        self._given = False
        self.name = f"{start.__qualname__} of {start.__module__}"
        update_wrapper(cast(Any, self), start)

    def __call__(self) -> Any:
        return self._start()

    @property
    def value(self) -> T:
        """
        What it has returned. A test may set it instead: it is not called then.

        :raises RuntimeError: where no worker has started, as at import.
        """
        if not self._value:
            raise RuntimeError(
                f"{self.name} has no value here: a worker calls it when it starts; "
                "read it in an agent, not at import or in a process of the agent's own"
            )
        return self._value[0]

    @value.setter
    def value(self, value: T) -> None:
        self._value, self._given = [value], True

    @property
    def opened(self) -> bool:
        return bool(self._value)

    async def open(self) -> None:
        """
        Call the function, and keep what it returns.

        :raises WorkerStartError: when it raises, whatever that is.
        """
        if self._given:
            return
        self._value.clear()
        try:
            made = self._start()
            self._value = [await made if inspect.isawaitable(made) else made]
        except BaseException as error:
            why = f"{type(error).__name__}{error_sentence(error)}{error_place(error)}"
            raise WorkerStartError(
                f"on_worker_start {self.name} failed: {why}"
            ) from error


_declared: dict[str, PerProcess[Any]] = {}


@overload
def on_worker_start(start: Callable[[], Coroutine[Any, Any, T]]) -> PerProcess[T]: ...
@overload
def on_worker_start(start: Callable[[], T]) -> PerProcess[T]: ...
def on_worker_start(start: Callable[[], Any]) -> PerProcess[Any]:
    """
    Declare that each worker process calls *start* before it polls, to open clients.

    `start.value` is then what it returned, in that process. Several are called in the
    order of declaration, each within 60 s; one that raises ends its worker.

    :param start: async or plain, without arguments.
    :raises BadInputError: when it takes an argument, or yields.
    """
    made: PerProcess[Any] = PerProcess(start)
    called = f"on_worker_start {made.name}"
    for each in inspect.signature(start).parameters.values():
        if each.default is each.empty:
            raise BadInputError(f"{called} must take no argument, not {each.name!r}")
    if inspect.isgeneratorfunction(start) or inspect.isasyncgenfunction(start):
        raise BadInputError(f"{called} must return, not yield")
    _declared[made.name] = made
    return made


async def open_all() -> None:
    """
    Call what is declared, as a worker does when it starts.

    :raises WorkerStartError: when one of them fails; no later one is called.
    """
    for each in list(_declared.values()):
        await each.open()


def unfinished(limit_s: float) -> str:
    """
    Say which function has not returned *limit_s* after the worker's start.
    """
    names = [each.name for each in _declared.values() if not each.opened]
    return f"on_worker_start {names[0]} has not returned after {limit_s:g} s"
