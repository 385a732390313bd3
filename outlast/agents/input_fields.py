"""
Which fields the type of an input has, and which keys of what is given fill none. Pure.
"""

import dataclasses
import difflib
import functools
import types
from collections.abc import Iterator, Mapping
from typing import (
    Annotated,
    Any,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AliasChoices, AliasPath, RootModel
from typing_extensions import is_typeddict

InputPath = tuple[int | str, ...]


class Fields(NamedTuple):
    """
    The fields of a model, dataclass or TypedDict; none of anything else.

    :param keys: what fills them, sorted.
    :param owner: the field that each key fills, or is called after.
    :param extensible: other keys may mean something, too: extras are allowed, or a
        validator of the whole input may read them.
    """

    keys: list[str]
    owner: dict[str, str]
    extensible: bool


@functools.cache
def fields_of(kind: Any) -> Fields:
    config = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", {}))
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    described = getattr(kind, "__pydantic_fields__", None) or {}
    filled = {
        name: _keys(name, field.validation_alias or field.alias, bool(by_name))
        for name, field in described.items()
    }
    if is_typeddict(kind):
        filled = {name: [name] for name in get_type_hints(kind)}
    elif not described and dataclasses.is_dataclass(kind):
        filled = {name: [name] for name in kind.__dataclass_fields__}
    owner = {key: name for name, keys in filled.items() for key in keys}
    decorators = getattr(kind, "__pydantic_decorators__", None)
    validators = decorators.model_validators.values() if decorators else ()
    whole = any(each.info.mode in ("before", "wrap") for each in validators)
    return Fields(
        keys=sorted(owner),
        owner={name: name for name in filled} | owner,
        extensible=whole or config.get("extra") == "allow",
    )


def _keys(name: str, alias: Any, by_name: bool) -> list[str]:
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    firsts = [
        each.path[0] if isinstance(each, AliasPath) else each
        for each in choices
        if each is not None
    ]
    if by_name or not firsts:
        firsts.append(name)
    return [str(each) for each in firsts]


def without_annotations(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def members(hint: Any) -> list[Any]:
    """
    List the types that *hint* may be, without what annotates them.
    """
    hint = without_annotations(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return [one for each in get_args(hint) for one in members(each)]
    return [hint]


def keys_in(hint: Any) -> set[str]:
    return {key for each in members(hint) for key in fields_of(each).keys}


def unknown_keys(
    value: Any, given: Any, at: InputPath = (), hint: Any = None
) -> Iterator[tuple[InputPath, list[str]]]:
    """
    Find the keys of *given* that *value*, which was made of it, has no field for: each
    with its place and the keys that there are.
    """
    if isinstance(value, RootModel):
        yield from unknown_keys(value.root, given, at)
    elif isinstance(given, dict):
        kind: Any = hint if is_typeddict(hint) else type(value)
        fields = fields_of(kind)
        if fields.keys:
            yield from _unknown_in(fields, value, given, at)
        elif isinstance(value, Mapping):
            for key in given.keys() & value.keys():
                yield from unknown_keys(value[key], given[key], (*at, key))
    elif isinstance(given, list) and isinstance(value, list | tuple):
        for number, (one, other) in enumerate(zip(value, given, strict=False)):
            yield from unknown_keys(one, other, (*at, number))


def _unknown_in(
    fields: Fields, value: Any, given: dict[str, Any], at: InputPath
) -> Iterator[tuple[InputPath, list[str]]]:
    for key, inner in given.items():
        owner = fields.owner.get(key)
        if owner is None and not fields.extensible:
            yield (*at, key), fields.keys
        elif owner is not None and isinstance(inner, dict | list):
            made = getattr(value, owner, None)
            yield from unknown_keys(made, inner, (*at, key))


def unknown_text(place: InputPath, known: list[str]) -> str:
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    if near:
        return f"{dotted(place)}: no such field; did you mean {near[0]}?"
    there = ", ".join(known) or "none"
    return f"{dotted(place)}: no such field; there are {there}"


def dotted(place: InputPath) -> str:
    return ".".join(str(part) for part in place) or "input"
