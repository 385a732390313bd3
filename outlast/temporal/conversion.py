"""
How values and errors are written for Temporal: pydantic's JSON, and errors within
bounds, whatever was raised: five megabytes of words, or two hundred causes.
"""

from contextvars import ContextVar
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    PayloadConverter,
)

from outlast.contracts.sizes import FAILURE_TRACE_BYTES, MAX_CAUSES, MESSAGE_BYTES
from outlast.contracts.text import truncate

# In the metadata of what is never kept and so is not put into the store.
INLINE = "outlast-inline"

CAUSES_LEFT_OUT = "[... more causes are left out]"

_failure_depth: ContextVar[int] = ContextVar("depth", default=0)


class JsonConverter(PydanticJSONPlainPayloadConverter):
    """
    Pydantic's JSON; marks what travels itself however large: see `WireModel`.
    """

    def to_payload(self, value: Any) -> Payload | None:
        payload = super().to_payload(value)
        if payload is not None and getattr(value, "inline", False) is True:
            payload.metadata[INLINE] = b"true"
        return payload


class ValueConverter(CompositePayloadConverter):
    """
    Temporal's own encodings, with pydantic's JSON for JSON.
    """

    def __init__(self) -> None:
        usual = DefaultPayloadConverter.default_encoding_payload_converters
        ours = JsonConverter()
        json = JSONPlainPayloadConverter
        super().__init__(*(ours if isinstance(each, json) else each for each in usual))


class ErrorConverter(DefaultFailureConverter):
    """
    Writes an error within bounds. What does not fit into a message of gRPC would never
    arrive: its attempt would seem to have died.
    """

    def to_failure(
        self,
        exception: BaseException,
        payload_converter: PayloadConverter,
        failure: Failure,
    ) -> None:
        depth = _failure_depth.get()
        if depth == MAX_CAUSES:
            failure.message = CAUSES_LEFT_OUT
            failure.application_failure_info.SetInParent()
            return
        deeper = _failure_depth.set(depth + 1)
        try:
            super().to_failure(exception, payload_converter, failure)
        finally:
            _failure_depth.reset(deeper)
        _truncate_causes(failure)


def _truncate_causes(failure: Failure) -> None:
    """
    Cut words and traceback of *failure* and its causes, some of which may come from
    elsewhere as they are; drop the deepest ones.
    """
    for depth in range(MAX_CAUSES + 1):
        if len(failure.message.encode(errors="replace")) > MESSAGE_BYTES:
            failure.message = truncate(failure.message, MESSAGE_BYTES)
        if len(failure.stack_trace) > FAILURE_TRACE_BYTES:
            failure.stack_trace = failure.stack_trace[-FAILURE_TRACE_BYTES:]
        if depth == MAX_CAUSES:
            failure.ClearField("cause")
        if not failure.HasField("cause"):
            return
        failure = failure.cause


CONVERTER = DataConverter(
    payload_converter_class=ValueConverter, failure_converter_class=ErrorConverter
)
