"""
How values of one type are written as JSON and read back, and which of them have to be
read back before they are kept.

By the names of fields, not by aliases, which may differ for reading and writing.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import pydantic_core
from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from outlast.execution.floats import TAG, holds_odd_float, tagged, with_constants

Flags = dict[str, Any]

# A value of a type whose values differ is read back each time while that costs little,
# and a larger one when it has doubled.
MAX_CHECKED_BYTES = 3 * 1024
# A larger value may have millions of parts, which takes seconds to check.
MAX_QUICK_CHECK_BYTES = 512 * 1024

UNTYPED: tuple[Any, ...] = (dict, list, Any, object)
PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_TEXT = frozenset({str})
_FLOAT_CONSTANTS = (b"NaN", b"Infinity")
_TAG = f'"{TAG}"'.encode()
# Parts of a type that decide by the value what is written or read.
_VARYING_SCHEMAS = {"any", "union", "is-instance", "is-subclass", "callable"}
# Parts of a type within which there is no float of its own.
_FIXED = """
    model model-fields model-field dataclass dataclass-args dataclass-field
    typed-dict typed-dict-field default nullable definitions definition-ref
    list dict tuple set frozenset tagged-union union
    str int bool none literal enum
    datetime date time timedelta uuid url bytes decimal
"""
_FIXED_SCHEMAS = frozenset(_FIXED.split())


class SlowCheckError(Exception):
    """
    To check the whole value takes long, and its caller wants a quick answer.
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

    @classmethod
    def of(cls, kind: Any, config: ConfigDict) -> Self:
        try:
            adapter = TypeAdapter(kind, config=config)
        except PydanticUserError as error:
            if error.code != "type-adapter-config-unused":
                raise
            adapter = TypeAdapter(kind)
        parts = list(_parts(adapter.core_schema))
        kinds = {each["type"] for each in parts}
        varies = bool(kinds & _VARYING_SCHEMAS) or any(map(_part_varies, parts))
        may_be_odd = not kinds <= _FIXED_SCHEMAS or any(map(_takes_extras, parts))
        return cls(adapter, varies, may_be_odd, kind in UNTYPED)

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
        native = self.bare and is_native(value)
        # To search a large text costs as much as to write it: only where it may be.
        if self.may_be_odd and not native:
            if b"null" in body and self._may_hide(value, flags):
                return _tagged_json(self._tree(value, flags)), native
            if any(name in body for name in _FLOAT_CONSTANTS):
                return _tagged_json(json.loads(body)), native
        if b"$" in body and _TAG in body:
            body = _tagged_json(json.loads(body))
        return body, native

    def read(self, body: bytes) -> Any:
        text = with_constants(body)
        return self.adapter.validate_json(text, by_alias=False, by_name=True)

    def must_check(self, value: Any, size: int) -> bool:
        """
        Say whether the value is to be read back before it is kept: the first one of
        each type, later ones only where values of it differ in what comes back.
        """
        if self.bare or type(value) not in self.seen:
            return True
        return self.varies and (
            size <= MAX_CHECKED_BYTES or size > 2 * self.checked_bytes
        )

    def checked(self, value: Any, flags: Flags, size: int) -> None:
        """
        Note that *value*, written with *flags*, comes back.
        """
        self.flags = flags
        self.seen.add(type(value))
        self.checked_bytes = max(self.checked_bytes, size)

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


def is_native(value: Any) -> bool:
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
            if not PLAIN_TYPES.issuperset(map(type, each)):
                rest += each
        elif not (math.isfinite(each) if kind is float else kind in PLAIN_TYPES):
            return False
    return True


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for each in schema.values():
            yield from _parts(each)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _parts(each)


def _part_varies(part: dict[str, Any]) -> bool:
    if part["type"] in ("model", "dataclass"):
        return bool(part["cls"].__subclasses__())
    return bool(part["type"].startswith("function"))


def _takes_extras(part: dict[str, Any]) -> bool:
    config = part.get("config") or {}
    return "extras_schema" in part or bool(config.get("extra_fields_behavior"))


def _tagged_json(tree: Any) -> bytes:
    return pydantic_core.to_json(tagged(tree))
