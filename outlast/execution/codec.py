"""
How an agent's progress and results are written as JSON, so that they come back as they
were; what would not come back is refused when it is given, naming the field.

By the names of fields, not by aliases, which may differ for reading and writing. The
first value of each type is read back and compared; later ones only where values of that
type differ in what comes back of them.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pydantic_core
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from outlast.execution.differences import Difference, children, difference
from outlast.execution.floats import (
    TAG,
    holds_odd_float,
    tagged,
    with_constants,
)

T = TypeVar("T")
Flags = dict[str, Any]

# Tried in this order: progress is for its own type only, a result also for those who
# read it as plain JSON and want its computed fields.
PROGRESS_FLAGS: tuple[Flags, ...] = (
    {"round_trip": True},
    {"round_trip": True, "serialize_as_any": True},
)
RESULT_FLAGS: tuple[Flags, ...] = ({}, {"serialize_as_any": True}, *PROGRESS_FLAGS)

# A value of a type whose values differ is read back each time while that costs little,
# and a larger one when it has doubled.
MAX_CHECKED_BYTES = 3 * 1024
# A larger value may have millions of parts: to look at all of them is not quickly done.
MAX_QUICK_CHECK_BYTES = 512 * 1024

_TEXT = frozenset({str})
_PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_UNTYPED: tuple[Any, ...] = (dict, list, Any, object)
_CONFIG = ConfigDict(ser_json_inf_nan="constants")
# Bytes of progress are read by the type that wrote them, a result's by others too.
_PROGRESS_CONFIG = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
)
_FLOAT_CONSTANTS = (b"NaN", b"Infinity")
_TAG = f'"{TAG}"'.encode()
# Parts of a type that decide by the value what is written or read.
_VARYING_SCHEMAS = {"any", "union", "is-instance", "is-subclass", "callable"}
# Parts of a type within which there is no float of its own.
_FIXED_SCHEMAS = {"model", "model-fields", "model-field", "dataclass", "dataclass-args"}
_FIXED_SCHEMAS |= {
    "dataclass-field",
    "typed-dict",
    "typed-dict-field",
    "default",
    "nullable",
}
_FIXED_SCHEMAS |= {
    "definitions",
    "definition-ref",
    "list",
    "dict",
    "tuple",
    "set",
    "frozenset",
}
_FIXED_SCHEMAS |= {
    "tagged-union",
    "union",
    "str",
    "int",
    "bool",
    "none",
    "literal",
    "enum",
}
_FIXED_SCHEMAS |= {
    "datetime",
    "date",
    "time",
    "timedelta",
    "uuid",
    "url",
    "bytes",
    "decimal",
}


class SlowCheckError(Exception):
    """
    To look at all that was given takes long, and was to be done quickly.
    """


class LossyEncodingError(Exception):
    """
    What was given would not come back; the message says which field, and why.
    """


@dataclass
class Encoder:
    """
    How values of one type are written, and what was seen of them.
    """

    adapter: TypeAdapter[Any]
    varies: bool
    may_be_odd: bool  # values may hold inf or nan
    bare: bool  # it says nothing of what is in it
    flags: Flags | None = None
    seen: set[type] = field(default_factory=set)
    checked_bytes: int = 0

    def dump(self, value: Any, flags: Flags, quickly: bool) -> tuple[bytes, bool]:
        """
        Write *value*, with tags for inf and nan; says too whether it is nothing but
        what JSON itself can say.

        :raises SlowCheckError: when that takes long and should be done *quickly*.
        """
        # As TypeAdapter.dump_json, which takes as long to pass its arguments on.
        body = self.adapter.serializer.to_json(
            value, by_alias=False, warnings=False, **flags
        )
        if quickly and len(body) > MAX_QUICK_CHECK_BYTES:
            raise SlowCheckError
        native = self.bare and _is_native(value)
        # To search a large text costs as much as to write it: only where it may be.
        if self.may_be_odd and not native:
            if b"null" in body and self._may_hide(value, flags):
                return _written(self._tree(value, flags)), native
            if any(name in body for name in _FLOAT_CONSTANTS):
                return _written(json.loads(body)), native
        if b"$" in body and _TAG in body:
            body = _written(json.loads(body))
        return body, native

    def read(self, body: bytes) -> Any:
        """
        Read what `dump` has written.
        """
        text = with_constants(body)
        return self.adapter.validate_json(text, by_alias=False, by_name=True)

    def must_check(self, value: Any, size: int) -> bool:
        """
        Say whether the value is to be read back before it is kept.
        """
        if self.bare or type(value) not in self.seen:
            return True
        return self.varies and (
            size <= MAX_CHECKED_BYTES or size > 2 * self.checked_bytes
        )

    def _may_hide(self, value: Any, flags: Flags) -> bool:
        """
        Say whether a null stands for an inf or nan: those of None are left out first,
        which is quick.
        """
        shown = self.adapter.dump_json(
            value, by_alias=False, warnings=False, exclude_none=True, **flags
        )
        return b"null" in shown and holds_odd_float(self._tree(value, flags))

    def _tree(self, value: Any, flags: Flags) -> Any:
        return self.adapter.dump_python(
            value, mode="json", by_alias=False, warnings=False, **flags
        )


class Codec:
    """
    What one agent's values are written and read by, in one process.
    """

    def __init__(self) -> None:
        self._encoders: dict[Any, Encoder] = {}

    def progress(self, value: Any, kind: Any = None, *, quickly: bool = False) -> bytes:
        """
        Write progress that will be read back as a *kind*, or, where that is not known,
        as what it is.

        :raises LossyEncodingError: when it would not come back as it is.
        """
        return self._encode(value, kind, PROGRESS_FLAGS, quickly)

    def result(self, value: Any, *, quickly: bool = False) -> bytes:
        """
        Write a result.

        :raises LossyEncodingError: when a task that needs it could not get it as it is.
        """
        return self._encode(value, None, RESULT_FLAGS, quickly)

    def read(self, kind: type[T], body: bytes) -> T:
        """
        Read progress back.

        :raises ValidationError: when it is no *kind*.
        """
        read: T = self._encoder(kind, PROGRESS_FLAGS).read(body)
        return read

    def _encode(
        self, value: Any, kind: Any, ways: tuple[Flags, ...], quickly: bool = False
    ) -> bytes:
        asked = type(value) if kind is None else kind
        try:
            way = self._encoder(asked, ways)
            if way.flags is not None:
                body, native = way.dump(value, way.flags, quickly)
                if native or not way.must_check(value, len(body)):
                    return body
            return self._first_whole(way, value, kind, ways, quickly)
        except (ValueError, TypeError, RecursionError, PydanticUserError) as error:
            raise LossyEncodingError(_unwritable(value, error)) from None

    def _first_whole(
        self,
        way: Encoder,
        value: Any,
        kind: Any,
        ways: tuple[Flags, ...],
        quickly: bool,
    ) -> bytes:
        """
        Write *value* in the first of *ways* in which all of it comes back.
        """
        loss: LossyEncodingError | None = None
        for flags in ways:
            body, _ = way.dump(value, flags, quickly)
            try:
                self._check(way, value, kind, body, ways)
            except LossyEncodingError as error:
                loss = loss or error
                continue
            way.flags = flags
            way.seen.add(type(value))
            way.checked_bytes = max(way.checked_bytes, len(body))
            return body
        raise loss or LossyEncodingError("nothing can write it")

    def _check(
        self,
        way: Encoder,
        value: Any,
        kind: Any,
        body: bytes,
        ways: tuple[Flags, ...],
    ) -> None:
        """
        Make sure that *value* comes back from *body*.
        """
        if _is_native(value) and kind in (None, *_UNTYPED):
            return
        if kind is None and isinstance(value, dict | list | tuple | set | frozenset):
            self._check_inside(value, "", ways)
            return
        try:
            back = way.read(body)
        except ValidationError as error:
            raise LossyEncodingError(_unreadable(value, error)) from None
        found = difference(value, back)
        if found is None or self._means_the_same(way, value, kind, back):
            return
        raise LossyEncodingError(_lost(value, found))

    def _means_the_same(self, way: Encoder, value: Any, kind: Any, back: Any) -> bool:
        """
        Say whether what comes back is *value* as a *kind*: a tuple, for one, that is
        resumed as a list. What is no *kind* must come back as what it is itself.
        """
        if kind is None or kind is type(value):
            return False
        try:
            meant = way.adapter.validate_python(value, by_alias=True, by_name=True)
        except ValidationError:
            return self.progress(value) is not None
        return difference(meant, back) is None

    def _check_inside(self, value: Any, path: str, ways: tuple[Flags, ...]) -> None:
        """
        Make sure that whoever says the type of what *value* holds gets it back.
        """
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise LossyEncodingError(_key(path, key))
        if isinstance(value, set | frozenset):
            inside: list[Any] = list(enumerate(value))
        else:
            inside = list(children(value))
        for name, each in inside:
            here = f"{path}.{name}" if path else str(name)
            if type(each) in _PLAIN_TYPES or type(each) is float:
                continue
            if isinstance(each, dict | list | tuple | set | frozenset):
                self._check_inside(each, here, ways)
                continue
            try:
                self._encode(each, None, ways)
            except LossyEncodingError as error:
                raise LossyEncodingError(f"{here}: {error}") from None

    def _encoder(self, kind: Any, ways: tuple[Flags, ...]) -> Encoder:
        key = kind, ways is RESULT_FLAGS
        try:
            found = self._encoders.get(key)
        except TypeError:  # a type that cannot be hashed is made anew
            return _made(kind, ways)
        if found is None:
            found = self._encoders[key] = _made(kind, ways)
        return found


def _made(kind: Any, ways: tuple[Flags, ...]) -> Encoder:
    config = _PROGRESS_CONFIG if ways is PROGRESS_FLAGS else _CONFIG
    try:
        adapter = TypeAdapter(kind, config=config)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        adapter = TypeAdapter(kind)
    return _inspected(adapter, kind in _UNTYPED)


def _inspected(adapter: TypeAdapter[Any], bare: bool) -> Encoder:
    parts = list(_parts(adapter.core_schema))
    kinds = {each["type"] for each in parts}
    varies = any(
        each["type"] in ("model", "dataclass") and each["cls"].__subclasses__()
        for each in parts
    )
    varies |= any(each.startswith("function") for each in kinds)
    may_be_odd = not kinds <= _FIXED_SCHEMAS or any(
        "extras_schema" in each for each in parts
    )
    open_ = any(
        (each.get("config") or {}).get("extra_fields_behavior") for each in parts
    )
    varies |= bool(kinds & _VARYING_SCHEMAS)
    return Encoder(adapter, varies, may_be_odd or open_, bare)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """
    List the parts that the schema of a type is made of.
    """
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for each in schema.values():
            yield from _parts(each)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _parts(each)


def _written(tree: Any) -> bytes:
    """
    Write *tree* with tags for what JSON has not.
    """
    return pydantic_core.to_json(tagged(tree))


def _is_native(value: Any) -> bool:
    """
    Say whether *value*, which has no circles, is what JSON itself can say.
    """
    rest = [value]
    while rest:
        each = rest.pop()
        kind = type(each)
        if kind is dict:
            if not _TEXT.issuperset(map(type, each)):
                return False
            each, kind = list(each.values()), list
        if kind is list:
            if not _PLAIN_TYPES.issuperset(map(type, each)):
                rest += each
        elif not (math.isfinite(each) if kind is float else kind in _PLAIN_TYPES):
            return False
    return True


def _lost(value: Any, found: Difference) -> str:
    where = (
        f"{type(value).__name__}.{found.path}" if found.path else _place_of_value(value)
    )
    given, back = type(found.given).__name__, type(found.back).__name__
    if given.startswith("Secret"):
        return (
            f"{where} is a {given}, which is written as asterisks: keep the secret's "
            "name and read it with ctx.secret"
        )
    if "[" in found.path.rpartition(".")[2]:
        return _key("", found.path)
    if given == back:
        return (
            f"{where} would come back with another value: it is left out or changed "
            "where its type writes or reads it"
        )
    return (
        f"{where} is a {given} and would come back as a {back}: say its type where it "
        "is declared"
    )


def _key(path: str, key: Any) -> str:
    where = f"{path}: " if path else ""
    name = key if isinstance(key, str) else f"[{key!r}]"
    return (
        f"{where}the key {name} is no text, and JSON has no other keys: say the type, "
        "as in dict[int, str], or write the keys as text"
    )


def _unreadable(value: Any, error: ValidationError) -> str:
    fault = error.errors()[0]
    path = ".".join(str(part) for part in fault["loc"])
    where = f"{type(value).__name__}.{path}" if path else _place_of_value(value)
    return f"{where} could not be read back: {fault['msg']}"


def _unwritable(value: Any, error: Exception) -> str:
    path, culprit = _culprit(value)
    where = f"{type(value).__name__}.{path}" if path else _place_of_value(value)
    try:
        if isinstance(culprit, str):
            culprit.encode()
    except UnicodeEncodeError:
        return (
            f"{where} holds half a surrogate pair, which is no text: use "
            "text.encode(errors='replace').decode()"
        )
    if isinstance(culprit, bytes):
        return (
            f"{where} is bytes that are no text: give its model "
            "ser_json_bytes='base64' and val_json_bytes='base64'"
        )
    cause = str(error).splitlines()[0].removeprefix("Error serializing to JSON: ")
    return f"{where} is a {type(culprit).__name__} that is no JSON: {cause}"


def _culprit(value: Any, depth: int = 20) -> tuple[str, Any]:
    """
    Find the part of *value* that cannot be written.
    """
    for name, each in children(value):
        try:
            pydantic_core.to_json(each)
        except (ValueError, TypeError, RecursionError):
            path, inner = _culprit(each, depth - 1) if depth else ("", each)
            return f"{name}.{path}" if path else str(name), inner
    return "", value


def _place_of_value(value: Any) -> str:
    return f"the {type(value).__name__}"
