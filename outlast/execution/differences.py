"""
Where two values differ: what was given to be kept, and what would come back.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter


class Difference(NamedTuple):
    """
    The first place, as a dotted path, and what is there in the one and in the other.
    """

    path: str
    given: Any
    back: Any


def difference(given: Any, back: Any, path: str = "") -> Difference | None:
    """
    Find the first place where *back* is not what was *given*; nan equals nan.
    """
    if given is back:
        return None
    if not _same_structure(given, back):
        return None if _equal(given, back) else Difference(path, given, back)
    ours, theirs = dict(children(given)), dict(children(back))
    for name in {**ours, **theirs}:
        here = f"{path}.{name}" if path else str(name)
        if name not in ours or name not in theirs:
            return Difference(here, ours.get(name), theirs.get(name))
        found = difference(ours[name], theirs[name], here)
        if found is not None:
            return found
    return None


def children(value: Any) -> Iterator[tuple[Any, Any]]:
    """
    List what *value* holds, by name, key or number.
    """
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        yield from ((name, value.__dict__.get(name)) for name in names)
        yield from (value.__pydantic_extra__ or {}).items()
        yield from (value.__pydantic_private__ or {}).items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names_ = [each.name for each in dataclasses.fields(value) if each.compare]
        yield from ((name, getattr(value, name, None)) for name in names_)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield key if isinstance(key, str) else f"[{key!r}]", each
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _same_structure(given: Any, back: Any) -> bool:
    holds = isinstance(given, BaseModel | Mapping | list | tuple)
    holds = holds or dataclasses.is_dataclass(given)
    if not holds or isinstance(given, type):
        return False
    both_dicts = isinstance(given, dict) and isinstance(back, dict)
    return both_dicts or type(given) is type(back)


def _equal(given: Any, back: Any) -> bool:
    if isinstance(given, float) and isinstance(back, float) and math.isnan(given):
        return math.isnan(back)
    try:
        if bool(given == back):
            return True
    except Exception:  # the type is the agent's: an array, for one, has no one answer
        return _same_json(given, back)
    if "__eq__" in {name for each in type(given).__mro__[:-1] for name in vars(each)}:
        return False
    return type(given) is type(back) and _same_json(given, back)


def _same_json(given: Any, back: Any) -> bool:
    try:
        adapter = TypeAdapter(type(given))
        return adapter.dump_json(given) == adapter.dump_json(back)
    except Exception:
        return False
