"""
One question to a model: behind its circuit, heard word by word, never tried twice.

What goes wrong is put in an agent's terms here and nowhere else:

    it asks for a pause (Retry-After)       -> TryLater; a long one: the next route
    it is away, overloaded, resets, stalls  -> ServiceError, retried by the server
    it refuses: key, quota, unknown model   -> GiveUp, the next route
    it talks what cannot be read            -> GiveUp, the next route
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pydantic_ai import ModelRequestNode, UsageLimitExceeded
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    UserError,
)
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model, infer_model
from pydantic_graph import GraphRunContext

from outlast import Context, GiveUp, TryLater
from outlast.contracts.errors import ServiceError
from outlast.crew.llm.models import silence_s
from outlast.telemetry import semconv
from outlast.telemetry.process import Attributes, telemetry

Graph = GraphRunContext[Any, Any]

# A service that asks to be left alone for longer is taken for away: the next route.
MAX_RETRY_AFTER_S = 30.0


def connect_model(name: str) -> Model:
    """
    Make the client of the model *name*, as pydantic-ai names it.

    :raises GiveUp: when there is none of this name, or its key is missing.
    """
    try:
        return infer_model(name)
    except (UserError, ImportError) as error:
        raise GiveUp(f"the model {name!r} cannot be used: {error}") from None


async def request_model(
    node: ModelRequestNode[Any, Any], graph: Graph, name: str, ctx: Context
) -> None:
    """
    Have *node*'s question answered by the model *name*, emitting as words come.

    :raises CircuitOpenError: when the model is left alone for now.
    :raises TaskError: as the head of this page says.
    """
    provider, _, model = name.partition(":")
    asked = {
        semconv.OPERATION_NAME: semconv.CHAT,
        semconv.PROVIDER_NAME: provider,
        semconv.REQUEST_MODEL: model,
    }
    with telemetry.tracer.span(f"{semconv.CHAT} {model}", asked):
        async with ctx.service(name):
            with translated_errors(name):
                answer = await _read_stream(node, graph, name, ctx)
        telemetry.tracer.describe(_usage_attributes(answer))


async def _read_stream(
    node: ModelRequestNode[Any, Any], graph: Graph, name: str, ctx: Context
) -> ModelResponse:
    """
    Hear the answer to its end, as long as no silence is too long.
    """
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(silence_s()) as limit:
            async with node.stream(graph) as words:
                async for _ in words:
                    limit.reschedule(now() + silence_s())
                    ctx.emit(f"{name} is answering")
                return words.response
    except TimeoutError:
        told = f"{name} said nothing for {silence_s():g} s"
        raise ServiceError(told) from None


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """
    Raise what the model *name* and its client raise as a TaskError.
    """
    try:
        yield
    except (ModelRequestRejectedError, ModelQuotaExceededError) as error:
        raise GiveUp(f"{name} refuses: {error}") from error
    except ModelAPIError as error:
        raise _later(name, error) from error
    except UsageLimitExceeded as error:
        raise GiveUp(f"{name} comes to no end: {error}") from error
    except AgentRunError as error:
        raise GiveUp(f"{name} gave no answer that can be used: {error}") from error


def _later(name: str, error: ModelAPIError) -> Exception:
    after = error.retry_after
    if after is None:
        return ServiceError(f"{name} failed: {error}")
    if after > MAX_RETRY_AFTER_S:
        return GiveUp(f"{name} asks to be left alone for {after:g} s")
    return TryLater(timedelta(seconds=after), f"{name} asks to wait {after:g} s")


def _usage_attributes(answer: ModelResponse) -> Attributes:
    return {
        semconv.RESPONSE_MODEL: answer.model_name or "",
        semconv.INPUT_TOKENS: answer.usage.input_tokens,
        semconv.OUTPUT_TOKENS: answer.usage.output_tokens,
    }
