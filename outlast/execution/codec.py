"""
How an agent's progress and results are written as JSON, so that they come back as they
were; what would not come back is refused when it is given, naming the field.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ConfigDict, PydanticUserError, ValidationError

from outlast.execution import encoding_errors
from outlast.execution.differences import children, difference
from outlast.execution.encoder import (
    PLAIN_TYPES,
    UNTYPED,
    Encoder,
    Flags,
    SlowCheckError,
    is_native,
)

T = TypeVar("T")

# Tried in this order: progress is for its own type only, a result also for those who
# read it as plain JSON and want its computed fields.
_PROGRESS_FLAGS: tuple[Flags, ...] = (
    {"round_trip": True},
    {"round_trip": True, "serialize_as_any": True},
)
_RESULT_FLAGS: tuple[Flags, ...] = ({}, {"serialize_as_any": True}, *_PROGRESS_FLAGS)

_RESULT_CONFIG = ConfigDict(ser_json_inf_nan="constants")
# Bytes of progress are read by the type that wrote them, a result's by others too.
_PROGRESS_CONFIG = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
)


class LossyEncodingError(Exception):
    """
    What was given would not come back; the message says which field, and why.
    """


class Codec:
    """
    What one agent's values are written and read by, in one process.
    """

    def __init__(self) -> None:
        self._progress = _Encoders(_PROGRESS_FLAGS, _PROGRESS_CONFIG)
        self._results = _Encoders(_RESULT_FLAGS, _RESULT_CONFIG)

    def progress(self, value: Any, kind: Any = None, *, quickly: bool = False) -> bytes:
        """
        Write progress that will be read back as a *kind*, or, where that is not known,
        as what it is.

        :raises LossyEncodingError: when it would not come back as it is.
        :raises SlowCheckError: when that takes long and should be done *quickly*.
        """
        return self._progress.encode(value, kind, quickly)

    def result(self, value: Any, *, quickly: bool = False) -> bytes:
        """
        Write a result.

        :raises LossyEncodingError: when a task that needs it could not get it as it is.
        :raises SlowCheckError: when that takes long and should be done *quickly*.
        """
        return self._results.encode(value, None, quickly)

    def read(self, kind: type[T], body: bytes) -> T:
        """
        Read progress back.

        :raises ValidationError: when it is no *kind*.
        """
        read: T = self._progress.encoder(kind).read(body)
        return read


class _Encoders:
    """
    The encoders of progress, or of results, by type.

    :param ways: flags to write a value with, in the order in which they are tried.
    """

    def __init__(self, ways: tuple[Flags, ...], config: ConfigDict) -> None:
        self._ways = ways
        self._config = config
        self._made: dict[Any, Encoder] = {}

    def encoder(self, kind: Any) -> Encoder:
        try:
            found = self._made.get(kind)
        except TypeError:  # a type that cannot be hashed is made anew
            return Encoder.of(kind, self._config)
        if found is None:
            found = self._made[kind] = Encoder.of(kind, self._config)
        return found

    def encode(self, value: Any, kind: Any = None, quickly: bool = False) -> bytes:
        try:
            encoder = self.encoder(type(value) if kind is None else kind)
            if encoder.flags is not None:
                body, native = encoder.dump(value, encoder.flags, quickly)
                if native or not encoder.must_check(value, len(body)):
                    return body
            return self._first_whole(encoder, value, kind, quickly)
        except (ValueError, TypeError, RecursionError, PydanticUserError) as error:
            told = encoding_errors.unwritable(value, error)
            raise LossyEncodingError(told) from None

    def _first_whole(
        self, encoder: Encoder, value: Any, kind: Any, quickly: bool
    ) -> bytes:
        """
        Write *value* in the first of the ways in which all of it comes back.
        """
        loss: LossyEncodingError | None = None
        for flags in self._ways:
            body, _ = encoder.dump(value, flags, quickly)
            try:
                self._check(encoder, value, kind, body)
            except LossyEncodingError as error:
                loss = loss or error
                continue
            encoder.checked(value, flags, len(body))
            return body
        raise loss or LossyEncodingError("nothing can write it")

    def _check(self, encoder: Encoder, value: Any, kind: Any, body: bytes) -> None:
        if is_native(value) and kind in (None, *UNTYPED):
            return
        if kind is None and isinstance(value, dict | list | tuple | set | frozenset):
            self._check_inside(value, "")
            return
        try:
            back = encoder.read(body)
        except ValidationError as error:
            told = encoding_errors.unreadable(value, error)
            raise LossyEncodingError(told) from None
        found = difference(value, back)
        if found is None or self._means_the_same(encoder, value, kind, back):
            return
        raise LossyEncodingError(encoding_errors.lost(value, found))

    def _means_the_same(
        self, encoder: Encoder, value: Any, kind: Any, back: Any
    ) -> bool:
        """
        Say whether what comes back is *value* as a *kind*: a tuple, for one, that is
        resumed as a list. What is no *kind* must come back as what it is itself.
        """
        if kind is None or kind is type(value):
            return False
        try:
            meant = encoder.adapter.validate_python(value, by_alias=True, by_name=True)
        except ValidationError:
            return self.encode(value) is not None
        return difference(meant, back) is None

    def _check_inside(self, value: Any, path: str) -> None:
        """
        Make sure that each part of *value* comes back by the type that it has.
        """
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise LossyEncodingError(encoding_errors.odd_key(path, key))
        is_set = isinstance(value, set | frozenset)
        for name, each in enumerate(value) if is_set else children(value):
            here = f"{path}.{name}" if path else str(name)
            if type(each) in PLAIN_TYPES or type(each) is float:
                continue
            if isinstance(each, dict | list | tuple | set | frozenset):
                self._check_inside(each, here)
                continue
            try:
                self.encode(each)
            except LossyEncodingError as error:
                raise LossyEncodingError(f"{here}: {error}") from None


async def off_loop(write: Callable[..., T], *args: Any) -> T:
    """
    Return write(True, *args); where that raises SlowCheckError, write(False, *args)
    from a thread: it would hold the event loop, which the watchdog ends after seconds.
    """
    try:
        return write(True, *args)
    except SlowCheckError:
        pass  # what is raised below has nothing to do with it
    return await asyncio.to_thread(write, False, *args)
