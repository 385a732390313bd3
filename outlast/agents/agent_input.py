"""
What an agent takes as its input: read from a task, and checked before it starts.
"""

import dataclasses
import difflib
import functools
import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import (
    AliasChoices,
    AliasPath,
    JsonValue,
    PydanticUserError,
    RootModel,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import is_typeddict

NEEDS = "needs"
# More faults than this are of one cause, and nobody reads them all.
MAX_INPUT_FAULTS = 3
# Whether a path exists is known to the worker, which may be another host.
WORKER_SIDE_CHECKS = ("path_not_file", "path_not_directory", "path_not_exists")
# No task's input is one of these: it is an object with fields.
NO_OBJECTS = (str, bytes, int, float, bool, list, tuple, set, frozenset, type(None))

InputPath = tuple[int | str, ...]


class AgentInput:
    """
    The type of an agent's first argument; without one, a dict of whatever it is given.

    :param is_list: the agent takes a list of items at once.
    :raises TypeError: when nothing of this type can be made of a task's input.
    """

    def __init__(self, hint: Any, is_list: bool = False) -> None:
        self._is_list = is_list
        self._hint = dict[str, Any] if hint is inspect.Parameter.empty else hint
        listed = (
            get_origin(_without_annotations(self._hint))
            or _without_annotations(self._hint)
        ) is list
        if is_list and not (listed or _is_open(self._hint)):
            raise TypeError(f"with batch_size it takes a list, not {name_of(hint)}")
        if not is_list and (get_origin(self._hint) or self._hint) in NO_OBJECTS:
            raise TypeError(
                f"a task's input is an object with fields, not {name_of(hint)}"
            )
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(self._hint)
            self._adapter.rebuild(raise_errors=True)
        except Exception as error:
            raise TypeError(
                f"{name_of(hint)} cannot be read: {_error_text(error)}"
            ) from error
        self.takes_needs = not is_list and _takes_needs(self._hint)
        # Nothing is to be checked where everything fits.
        self.is_open = _is_open(self._hint)
        self.takes_json = not (is_list or self.is_open or self.takes_needs)

    def read(self, given: Any, needs: dict[str, JsonValue]) -> Any:
        """
        Make the argument of a task's input; results of needed tasks fill its `needs`.

        :raises ValidationError: when it does not fit.
        """
        if self.takes_needs and (needs or not self.is_open):
            given = {**given, NEEDS: needs}
        return self._made(given)

    def read_json(self, body: str) -> Any:
        """
        Make the argument of JSON that holds nothing but the input, where `takes_json`.

        :raises ValidationError: when it does not fit, or has half a surrogate pair.
        """
        return self._adapter.validate_json(body, by_alias=True, by_name=True)

    def _made(self, values: Any, text: str | None = None) -> Any:
        """
        Read *values* as what they are, JSON, whose *text* need not be made where it is
        there: bytes, dates under strict and others come back as they were written. By
        alias or, as results are written, by name.
        """
        both: dict[str, Any] = {"by_alias": True, "by_name": True}
        if self.is_open:
            return self._adapter.validate_python(values, **both)
        try:
            return self._adapter.validate_json(text or json.dumps(values), **both)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                raise
        # Half a surrogate pair, which JSON has not.
        return self._adapter.validate_python(values, **both)

    def faults(self, given: Any, text: str | None = None) -> list[str]:
        """
        Say what of a task's or an item's input does not fit, a phrase each. Results of
        needed tasks are not there yet.

        :param text: its JSON, where that is there.
        """
        if self.is_open:
            return []
        lead = 1 if self._is_list else 0
        whole: Any = [given] if self._is_list else given
        if self.takes_needs:
            whole = {**given, NEEDS: {}}
        try:
            value = self._made(whole, text if whole is given else None)
        except ValidationError as error:
            return self._misfits(error, lead)
        except Exception:
            return []  # a validator of the user's; the attempt says how it fails
        unknown = _unknown(value, whole, (), self._hint)
        return [_describe_unknown(loc[lead:], known) for loc, known in unknown]

    def _misfits(self, error: ValidationError, lead: int) -> list[str]:
        told = []
        for each in error.errors(include_url=False, include_context=False):
            place = each["loc"][lead:]
            wanted = each["loc"][-1:] == (NEEDS,) or NEEDS in each["loc"][:2]
            if (wanted and self.takes_needs) or each["type"] in WORKER_SIDE_CHECKS:
                continue
            if each["type"] == "extra_forbidden":
                told.append(_describe_unknown(place, sorted(_names_in(self._hint))))
            else:
                told.append(f"{_dotted(place)}: {each['msg']}")
        return told


def first_fault(error: ValidationError) -> str:
    """
    Say the first fault of a validation in one line.
    """
    fault = error.errors()[0]
    return f"{_dotted(fault['loc'])}: {fault['msg']}"


def name_of(hint: Any) -> str:
    """
    Name a type as it is written.
    """
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")


def _error_text(error: Exception) -> str:
    """
    Say which type cannot be read, of those that an input is made of.
    """
    if isinstance(error, NameError):  # as pydantic's own is, for a field's type
        return f"{error.name!r} is not defined where its type is written"
    inner = re.search(r"schema for <class '([^']+)'>", str(error))
    if inner:
        return f"nothing in JSON becomes a {inner[1]}"
    if isinstance(error, PydanticUserError):
        return str(error).splitlines()[0].rstrip(".")
    return f"{type(error).__name__} when its type is read"


def _without_annotations(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _members(hint: Any) -> list[Any]:
    """
    List the types that *hint* may be, without what annotates them.
    """
    hint = _without_annotations(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return [one for each in get_args(hint) for one in _members(each)]
    return [hint]


def _is_open(hint: Any) -> bool:
    """
    True if every object fits: a dict of anything.
    """
    hint = _without_annotations(hint)
    if hint in (Any, object, dict, Mapping):
        return True
    values = get_args(hint)
    is_map = get_origin(hint) in (dict, Mapping)
    return is_map and len(values) == 2 and values[1] in (Any, object, JsonValue)


def _takes_needs(hint: Any) -> bool:
    return any(
        _is_open(each) or NEEDS in _names_in(each) or _is_extensible(each)
        for each in _members(hint)
    )


def _names_in(hint: Any) -> set[str]:
    return {
        name
        for each in _members(hint)
        for names in _fields(each).values()
        for name in names
    }


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, ...]]:
    """
    List the fields of a model, dataclass or TypedDict, each with the keys that fill it;
    none where *kind* is something else.
    """
    if is_typeddict(kind):
        return {name: (name,) for name in get_type_hints(kind)}
    described = getattr(kind, "__pydantic_fields__", None) or {}
    if not described and dataclasses.is_dataclass(kind):
        return {name: (name,) for name in kind.__dataclass_fields__}
    config = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", {}))
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return {
        name: _keys(name, field.validation_alias or field.alias, bool(by_name))
        for name, field in described.items()
    }


def _keys(name: str, alias: Any, by_name: bool) -> tuple[str, ...]:
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    firsts = [
        each.path[0] if isinstance(each, AliasPath) else each
        for each in choices
        if each is not None
    ]
    if by_name or not firsts:
        firsts.append(name)
    return tuple(str(each) for each in firsts)


@functools.cache
def _is_extensible(kind: Any) -> bool:
    """
    True if other keys than the fields' may mean something: extras are allowed, or a
    validator of the whole input may read them.
    """
    config = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", {}))
    if config.get("extra") == "allow":
        return True
    decorators = getattr(kind, "__pydantic_decorators__", None)
    if decorators is None:
        return False
    return any(
        each.info.mode in ("before", "wrap")
        for each in decorators.model_validators.values()
    )


def _unknown(
    value: Any, given: Any, at: InputPath, hint: Any = None
) -> Iterator[tuple[InputPath, list[str]]]:
    """
    Find the keys of *given* that *value*, which was made of it, has no field for: each
    with its place and the keys that there are.
    """
    if isinstance(value, RootModel):
        yield from _unknown(value.root, given, at)
    elif isinstance(given, dict):
        kind: Any = hint if is_typeddict(hint) else type(value)
        fields = _fields(kind)
        if fields:
            yield from _unknown_in(kind, fields, value, given, at)
        elif isinstance(value, Mapping):
            for key in given.keys() & value.keys():
                yield from _unknown(value[key], given[key], (*at, key))
    elif isinstance(given, list) and isinstance(value, list | tuple):
        for number, (one, other) in enumerate(zip(value, given, strict=False)):
            yield from _unknown(one, other, (*at, number))


def _unknown_in(
    kind: Any,
    fields: dict[str, tuple[str, ...]],
    value: Any,
    given: dict[str, Any],
    at: InputPath,
) -> Iterator[tuple[InputPath, list[str]]]:
    owner = _owners(kind)
    if not _is_extensible(kind) and not given.keys() <= owner.keys():
        known = {key for keys in fields.values() for key in keys}
        for key in given:
            if key not in owner:
                yield (*at, key), sorted(known)
    for key, inner in given.items():
        if isinstance(inner, dict | list) and key in owner:
            made = getattr(value, owner[key], None)
            yield from _unknown(made, inner, (*at, key))


@functools.cache
def _owners(kind: Any) -> dict[str, str]:
    """
    Name the field that each key fills, or is called after.
    """
    fields = _fields(kind)
    own = {name: name for name in fields}
    return own | {key: name for name, keys in fields.items() for key in keys}


def _describe_unknown(place: InputPath, known: list[str]) -> str:
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    if near:
        return f"{_dotted(place)}: no such field; did you mean {near[0]}?"
    there = ", ".join(known) or "none"
    return f"{_dotted(place)}: no such field; there are {there}"


def _dotted(place: InputPath) -> str:
    return ".".join(str(part) for part in place) or "input"
