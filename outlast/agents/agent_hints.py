"""
The types that an agent's function takes, resolved where it is written: also behind
decorators, and with what its module imports under TYPE_CHECKING only.
"""

import ast
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

from outlast.agents.agent_function import (
    Function,
    layers,
    positional,
    signature_of,
)

Import = ast.Import | ast.ImportFrom


def hints_of(play: Function) -> tuple[Any, Any]:
    """
    Resolve the types of the input and of the context; `Parameter.empty` where there is
    none.

    :raises NameError: when a name of the input's type is not to be found.
    """
    named = positional(signature_of(play))
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
            named = positional(inspect.signature(layer, follow_wrapped=False))
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
    bearer = types.SimpleNamespace(__annotations__={"input": hint})
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
    for statement in _type_checking_imports(tree):
        for alias in statement.names:
            if name == (alias.asname or alias.name.partition(".")[0]):
                with suppress(ImportError, AttributeError):
                    return _imported(statement, alias, package)
                return None
    return None


def _type_checking_imports(tree: ast.Module) -> Iterator[Import]:
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test):
            for each in (inner for line in block.body for inner in ast.walk(line)):
                if isinstance(each, Import):
                    yield each


def _imported(statement: Import, alias: ast.alias, package: str) -> Any:
    if isinstance(statement, ast.ImportFrom):
        home = "." * statement.level + (statement.module or "")
        return getattr(importlib.import_module(home, package), alias.name)
    module = importlib.import_module(alias.name)
    return module if alias.asname else sys.modules[alias.name.partition(".")[0]]
