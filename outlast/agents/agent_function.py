"""
The function that plays an agent, seen through decorators, partials and objects.

What it looks like is read once, when its module is loaded: a function that cannot be
called with an input and a context is refused there, not by its first task.
"""

import functools
import inspect
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

Function = Callable[..., Any]

POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
TWO_ARGUMENTS = "an agent is called with two arguments, its input and the context"
# Nobody decorates deeper; a loop of `__wrapped__` ends here.
MAX_LAYERS = 50


def layers(play: Function) -> list[Function]:
    """
    List what *play* is made of, from what is called first to the innermost function.
    """
    found = [play]
    while len(found) < MAX_LAYERS:
        inner = _inner(found[-1])
        if inner is None:
            break
        found.append(inner)
    return found


def _inner(play: Any) -> Function | None:
    if isinstance(play, functools.partial):
        return play.func
    if inspect.ismethod(play):
        return play.__func__
    wrapped = getattr(play, "__wrapped__", None)
    if wrapped is not None:
        return wrapped  # type: ignore[no-any-return]
    if inspect.isroutine(play) or inspect.isclass(play):
        return None
    called = getattr(play, "__call__", None)  # noqa: B004 - it is the method we want
    return called if inspect.ismethod(called) else None


def is_async(play: Function) -> bool:
    """
    True if a call of *play* makes a coroutine, also behind a decorator that does not
    say so itself.
    """
    return any(inspect.iscoroutinefunction(each) for each in layers(play))


def place_of(play: Function) -> str:
    """
    Say in which file and line *play* is written.
    """
    code = _code(play)
    if code is None:
        return str(getattr(play, "__module__", None) or type(play).__module__)
    return place(code.co_filename, code.co_firstlineno)


def place(file: str, line: int) -> str:
    """
    Name a line, relative to the current folder where it is below it.
    """
    try:
        shown = os.path.relpath(file)
    except (ValueError, OSError):
        shown = file
    return f"{file if shown.startswith('..') else shown}:{line}"


def origin(play: Function) -> tuple[str, int, str]:
    """
    Identify where *play* is written: file, line and name. What is typed into a notebook
    has no file, and is known by its module and name.
    """
    code = _code(play)
    if code is None or not Path(code.co_filename).is_file():
        inner = layers(play)[-1]
        name = getattr(inner, "__qualname__", type(inner).__qualname__)
        return getattr(inner, "__module__", ""), 0, name
    file = str(Path(code.co_filename).resolve())
    return file, code.co_firstlineno, code.co_qualname


def is_plain(play: Function) -> bool:
    """
    True if *play* is a plain function that closes over nothing.
    """
    return isinstance(play, types.FunctionType) and play.__closure__ is None


def _code(play: Function) -> types.CodeType | None:
    for layer in reversed(layers(play)):
        code = getattr(layer, "__code__", None)
        if isinstance(code, types.CodeType):
            return code
    return None


def signature_of(play: Function) -> inspect.Signature:
    """
    Read how *play* is called. A decorator that passes on whatever it gets is looked
    through; one with parameters of its own counts with these.

    :raises TypeError, ValueError: when Python cannot tell, as of functions in C.
    """
    inner = _inner(play)
    try:
        own = inspect.signature(play, follow_wrapped=False)
        if inner is None or len(positional(own)) >= 2 or not _takes_anything(own):
            return own
    except (TypeError, ValueError):  # a wrapper written in C, as lru_cache's
        if inner is None:
            raise

    def stand_in() -> None: ...

    stand_in.__signature__ = signature_of(inner)  # type: ignore[attr-defined]
    if isinstance(play, functools.partial):
        return inspect.signature(
            functools.partial(stand_in, *play.args, **play.keywords)
        )
    if inspect.ismethod(play):
        return inspect.signature(types.MethodType(stand_in, play.__self__))
    return signature_of(inner)


def positional(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [each for each in signature.parameters.values() if each.kind in POSITIONAL]


def _takes_anything(signature: inspect.Signature) -> bool:
    return any(
        each.kind is inspect.Parameter.VAR_POSITIONAL
        for each in signature.parameters.values()
    )


def fault_of(play: Any) -> str | None:
    """
    Say why *play* cannot be an agent's function, and what to do; None when it can.
    """
    if inspect.isclass(play):
        return (
            f"{play.__name__} is a class: declare an object of it that can be called, "
            f"agent(...)({play.__name__}())"
        )
    if isinstance(play, classmethod):
        return "a classmethod has no class yet: declare it behind the class instead"
    if not callable(play):
        return f"{type(play).__name__} is no function"
    return _generator_fault(play) or _signature_fault(play)


def _generator_fault(play: Function) -> str | None:
    for layer in layers(play):
        if inspect.iscoroutinefunction(layer):
            return None  # it may collect what an inner generator yields
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            return (
                "it yields, and an agent's result is what it returns: return a list, "
                "and tell of progress by ctx.emit or ctx.save"
            )
    return None


def _signature_fault(play: Function) -> str | None:
    try:
        signature = signature_of(play)
    except (TypeError, ValueError):
        return "its parameters cannot be read: write a function around it"
    named = positional(signature)
    if named and named[0].name == "self":
        return "it takes self: declare the method of an object, agent(...)(it.method)"
    if len(named) < 2 and _takes_anything(signature):
        return (
            f"it takes {signature}: name its two parameters, input and ctx, or use "
            "functools.wraps where it decorates another function"
        )
    more = [
        each
        for each in signature.parameters.values()
        if each not in named[:2]
        and each.default is inspect.Parameter.empty
        and each.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    ]
    if len(named) < 2 or more:
        return f"it takes {_without_types(signature)}: {TWO_ARGUMENTS}"
    return None


def _without_types(signature: inspect.Signature) -> str:
    bare = [
        each.replace(annotation=inspect.Parameter.empty)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))
