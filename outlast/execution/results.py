"""
What an agent has returned, as it is kept: the result as JSON in the ledger, and beside
it the answer that travels.
"""

import json
from typing import Any

from pydantic import JsonValue

from outlast.agents.agent import Degraded
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import BadInputError, GiveUp, ResultError
from outlast.contracts.inputs import InputStorage
from outlast.contracts.plan_validation import require_plan_size
from outlast.contracts.results import FollowUps, Redo, RedoRequest, ResultRef
from outlast.contracts.sizes import MAX_RESULT_BYTES, MIB
from outlast.contracts.text import (
    CAUSE_CHARS,
    SUMMARY_CHARS,
    canonical_json,
    sha256_hex,
)
from outlast.execution.codec import Codec, LossyEncodingError
from outlast.execution.floats import TAG, tagged
from outlast.secrets import masked


def encode(
    value: Any, codec: Codec, largest: int = MAX_RESULT_BYTES, quickly: bool = False
) -> str:
    """
    Write a result as JSON.

    :raises SlowCheckError: when that takes long and should be done *quickly*.
    :raises ResultError: when what needs it would not get it as it is, or when it is
        over the cap.
    """
    try:
        body = codec.result(value, quickly=quickly)
    except LossyEncodingError as loss:
        raise ResultError(f"the result cannot be kept: {loss}") from None
    if len(body) > largest:
        raise _too_large("a result", len(body), largest, "return")
    return body.decode()


def encode_item_result(
    quickly: bool, value: Any, codec: Codec, largest: int
) -> tuple[str, str | None]:
    """
    Write what an item's agent returned as JSON, and say what it lacks.

    :raises SlowCheckError: when that takes long and should be done *quickly*.
    :raises ResultError: when it cannot be kept.
    """
    reason: str | None = None
    if isinstance(value, FollowUps):
        raise ResultError("an item's agent cannot ask for follow-up tasks")
    if isinstance(value, Degraded):
        reason, value = masked(value.reason, CAUSE_CHARS), value.result
    return encode(value, codec, largest, quickly), reason


def encode_item(item: dict[str, JsonValue], largest: int) -> str:
    """
    Write an item in the one way that tells it from others.

    :raises ResultError: when it is over the cap.
    """
    try:
        body = canonical_json(item)
        if f'"{TAG}"' in body:
            body = canonical_json(tagged(item))
    except ValueError:  # inf or nan
        body = canonical_json(tagged(item))
    if len(body) > largest:
        raise _too_large("an item", len(body), largest, "give")
    return body


def _too_large(what: str, size: int, largest: int, do: str) -> ResultError:
    return ResultError(
        f"{what} of {size} bytes is over the cap of {largest} (OUTLAST_LARGEST_MB): "
        f"store it elsewhere and {do} where it lies"
    )


def result_ref(
    quickly: bool, value: Any, attempt: int, codec: Codec, largest: int
) -> tuple[ResultRef, str]:
    """
    Split what an agent returned into the answer that travels and the result that
    stays.

    :raises SlowCheckError: when that takes long and should be done *quickly*.
    :raises ResultError: when it is no JSON or over the cap.
    """
    reasons: list[str] = []
    if isinstance(value, Degraded):
        reasons = [masked(value.reason, CAUSE_CHARS)]
        value = value.result
    follow_ups = value.tasks if isinstance(value, FollowUps) else []
    redo: RedoRequest | None = None
    if isinstance(value, Redo):
        reason, has_result = masked(value.reason, CAUSE_CHARS), value.result is not None
        redo = RedoRequest(task=value.task, reason=reason, has_result=has_result)
    if isinstance(value, FollowUps | Redo):
        value = value.result
    text = encode(value, codec, largest, quickly)
    answer = ResultRef(
        digest=sha256_hex(text),
        size=len(text.encode()),
        attempt=attempt,
        summary=masked(_summary(text) or text, SUMMARY_CHARS),
        degraded=reasons,
        follow_ups=follow_ups,
        redo_request=redo,
    )
    return answer, text


def _summary(text: str) -> str:
    """
    Read how a result sums itself up, in its field `summary`; "" when it does not, or
    when it is so large that reading it takes long.
    """
    result = json.loads(text) if len(text) <= MIB else None
    told = result.get("summary") if isinstance(result, dict) else None
    return told if isinstance(told, str) else ""


def without_stored_inputs(
    answer: ResultRef, assignment: AttemptInput, largest: int
) -> tuple[ResultRef, list[bytes]]:
    """
    Move the large inputs of follow-up tasks out of *answer*; returns too what the store
    must have of them when it is recorded.

    :raises GiveUp: when there is more than a plan may hold.
    """
    asked, most = answer.follow_ups, assignment.limits.tasks
    if len(asked) > most:
        raise GiveUp(f"it asks for {len(asked)} tasks, over the limit of {most}")
    moving = InputStorage(assignment.mission, largest)
    try:
        tasks = moving.stored(asked)
        require_plan_size(tasks)
    except BadInputError as error:
        raise GiveUp(f"what it asks for: {error}") from None
    return answer.model_copy(update={"follow_ups": tasks}), moving.bodies
