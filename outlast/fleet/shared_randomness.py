"""
What must not be drawn alike by all workers that are forked from one process.

Two processes with one random generator draw the same numbers, so generators are seeded
anew after a fork. An id that was drawn before it is kept somewhere: it cannot be drawn
again, and makes the module that drew it unsafe to fork.
"""

import os
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from outlast.agents.user_code import is_library


class SharedRandomness:
    def __init__(self) -> None:
        self._generators: list[weakref.ref[random.Random]] = []

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """
        Note each `random.Random()` that is made within and given no seed; yields where
        users' modules draw bytes by chance for themselves, as `uuid4` and `secrets` do.
        """
        drawn: list[str] = []
        with _watching_generators(self._generators), _watching_urandom(drawn.append):
            yield drawn

    def reseed(self) -> None:
        """
        Give each random generator a seed of its own, after a fork; those that were
        given one on purpose keep it.
        """
        for each in self._generators:
            generator = each()
            if generator is not None:
                generator.seed()
        _reseed_numpy()


@contextmanager
def _watching_generators(
    noted: list["weakref.ref[random.Random]"],
) -> Iterator[None]:
    real = random.Random.__init__

    def init(self: random.Random, x: Any = None) -> None:
        real(self, x)
        if x is None:
            noted.append(weakref.ref(self))

    with _replacing(random.Random, "__init__", init):
        yield


@contextmanager
def _watching_urandom(note: Callable[[str], None]) -> Iterator[None]:
    real, over = os.urandom, False

    def urandom(size: int) -> bytes:
        frame = None if over else _user(sys._getframe(1))
        if frame is not None:
            note(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return real(size)

    with ExitStack() as stack:
        stack.enter_context(_replacing(os, "urandom", urandom))
        stack.enter_context(_replacing(random, "_urandom", urandom))
        try:
            yield
        finally:
            over = True  # who has taken it by name goes on with it


def _user(frame: FrameType | None) -> FrameType | None:
    """
    Find who called the standard library; None where that is not the user's code, as
    when a module of the library draws at its own import.
    """
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<"):
            return None
        if not is_library(name):
            return frame
        frame = frame.f_back
    return None


@contextmanager
def _replacing(home: Any, name: str, other: Any) -> Iterator[None]:
    real = getattr(home, name)
    setattr(home, name, other)
    try:
        yield
    finally:
        setattr(home, name, real)


def _reseed_numpy() -> None:
    """
    Seed numpy's generators anew: the global one, and those in users' modules.
    """
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return
    made = [numpy.mtrand._rand]
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and not is_library(file):
            made += [each for each in vars(module).values() if _draws(each)]
    for each in made:
        source = getattr(each, "bit_generator", None) or each._bit_generator
        if _is_random(source):
            source.state = type(source)().state


def _draws(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("numpy.random") and kind.__name__ == "Generator"


def _is_random(source: Any) -> bool:
    """
    Say whether nobody chose the seed: those that people choose are short.
    """
    entropy = getattr(getattr(source, "_seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > 64
