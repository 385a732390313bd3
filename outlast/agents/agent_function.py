"""
The function that plays an agent, seen through decorators, partials and objects.

What it looks like is read once, when its module is loaded: a function that cannot be
called with an input and a context is refused there, not by its first task.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

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
        return f"{getattr(play, '__module__', None) or type(play).__module__}"
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
        if inner is None or len(_named(own)) >= 2 or not _takes_anything(own):
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


def _named(signature: inspect.Signature) -> list[inspect.Parameter]:
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
    named = _named(signature)
    if named and named[0].name == "self":
        return "it takes self: declare the method of an object, agent(...)(it.method)"
    if len(named) < 2 and _takes_anything(signature):
        return (
            f"it takes {signature}: name its two parameters, input and ctx, or use "
            "functools.wraps where it decorates another function"
        )
    more = [
        each
        for each in [*named[2:], *signature.parameters.values()]
        if each not in named[:2]
        and each.default is inspect.Parameter.empty
        and each.kind in (*POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    ]
    if len(named) < 2 or more:
        return f"it takes {_without_defaults(signature)}: {TWO_ARGUMENTS}"
    return None


def _without_defaults(signature: inspect.Signature) -> str:
    """
    Show the parameters without their types, which may be long.
    """
    bare = [
        each.replace(annotation=inspect.Parameter.empty)
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))


def hints_of(play: Function) -> tuple[Any, Any]:
    """
    Resolve the types of the input and of the context; `Parameter.empty` where there is
    none. What is imported under TYPE_CHECKING only is imported now.

    :raises NameError: when a name of the input's type is not to be found.
    """
    named = _named(signature_of(play))
    given, ctx = named[0].annotation, named[1].annotation
    if given is inspect.Parameter.empty:
        given = _innermost_hint(play)
    try:
        context = _resolved(ctx, play)
    except Exception:
        context = inspect.Parameter.empty  # needed by type checkers, not by us
    return _resolved(given, play), context


def _innermost_hint(play: Function) -> Any:
    """
    Find the input's type behind a decorator whose own parameters have none.
    """
    for layer in layers(play)[1:]:
        if isinstance(layer, types.FunctionType):
            named = _named(inspect.signature(layer, follow_wrapped=False))
            if len(named) == 2:
                return named[0].annotation
    return inspect.Parameter.empty


def _resolved(hint: Any, play: Function) -> Any:
    """
    Resolve *hint* where the function, or else one of its decorators, is written.
    """
    if hint is inspect.Parameter.empty:
        return hint
    missing: NameError | None = None
    for layer in reversed(layers(play)):
        if not isinstance(layer, types.FunctionType):
            continue
        try:
            return _resolved_in(hint, layer)
        except NameError as error:
            missing = missing or error
    if missing is not None:
        raise missing
    return hint


def _resolved_in(hint: Any, function: types.FunctionType) -> Any:
    def bearer() -> None: ...

    bearer.__annotations__ = {"input": hint}
    known = dict(inspect.getclosurevars(function).nonlocals)
    while True:
        try:
            found = get_type_hints(
                bearer, function.__globals__, known, include_extras=True
            )
        except NameError as error:
            if error.name is None or error.name in known:
                raise
            guarded = _type_checking_name(function, error.name)
            if guarded is None:
                raise
            known[error.name] = guarded
        else:
            return found["input"]


def _type_checking_name(function: types.FunctionType, name: str) -> Any:
    """
    Import *name* as the function's module does under `if TYPE_CHECKING:`; None where it
    does not, or cannot.
    """
    try:
        tree = ast.parse(Path(function.__code__.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    package = function.__globals__.get("__package__") or ""
    for module, attribute, known_as in _type_checking_imports(tree, package):
        if known_as == name:
            try:
                imported = importlib.import_module(module)
                return getattr(imported, attribute) if attribute else imported
            except (ImportError, AttributeError):
                return None
    return None


def _type_checking_imports(
    tree: ast.Module, package: str
) -> Iterator[tuple[str, str | None, str]]:
    """
    List what is imported under TYPE_CHECKING: module, name in it, name here.
    """
    for block in ast.walk(tree):
        if not (isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)):
            continue
        for each in (inner for line in block.body for inner in ast.walk(line)):
            if isinstance(each, ast.ImportFrom):
                level = "." * each.level + (each.module or "")
                module = importlib.util.resolve_name(level, package)
                for alias in each.names:
                    yield module, alias.name, alias.asname or alias.name
            elif isinstance(each, ast.Import):
                for alias in each.names:
                    if alias.asname:
                        yield alias.name, None, alias.asname
                    else:
                        first = alias.name.split(".")[0]
                        yield first, None, first
