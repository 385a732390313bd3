"""
The input of a mission, whatever has started its workflow and with whatever value.

An input that cannot be used fails the workflow with one sentence. It never fails a
workflow task, which Temporal would try again for ever.
"""

from typing import Any

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

from outlast.contracts.batches import Batch, PoolState
from outlast.contracts.errors import BadInputError, NewerStateError
from outlast.contracts.failures import FailureType
from outlast.contracts.missions import Mission
from outlast.contracts.text import CAUSE_CHARS, one_line
from outlast.contracts.validation_faults import faults_of, first_few

# The input of a workflow that was started without one.
NOTHING = RawValue(Payload())

# Fields that the first activity, a redrive or a parent fills in. In any other input
# they are copied from another mission.
FILLED_IN = (
    "crew",
    "store",
    "heartbeat_timeout_s",
    "prior_run",
    "parent",
    "scope",
    "schema_number",
)


def read_mission(given: RawValue) -> Mission:
    """
    Read the mission that this workflow was started with. Its id is the workflow's: a
    Schedule starts each of its workflows with the same input.

    :raises BadInputError: in one sentence.
    :raises NewerStateError: when a newer release has written it.
    """
    workflow_id = workflow.info().workflow_id
    asked = read_json(given)
    if not isinstance(asked, dict):
        raise BadInputError(
            "the input is no mission, a JSON object with goal and tasks"
        )
    if asked.get("id") != workflow_id or not asked.get("store"):
        asked = {key: each for key, each in asked.items() if key not in FILLED_IN}
    try:
        return Mission.model_validate({**asked, "id": workflow_id})
    except ValidationError as error:
        raise BadInputError(f"the mission's {faults(error)}") from None


def read_state(given: RawValue) -> PoolState:
    """
    Read what a pool's workflow was started with.

    :raises BadInputError: in one sentence.
    :raises NewerStateError: when a newer release has written it.
    """
    try:
        state = PoolState.model_validate(read_json(given))
    except ValidationError as error:
        raise BadInputError(f"the batch's {faults(error)}") from None
    if state.batch.id != workflow.info().workflow_id:
        raise BadInputError(
            f"batch {state.batch.id!r} is worked on by the workflow of that id only"
        )
    return state


def nothing_to_do() -> PoolState:
    return PoolState.model_construct(batch=Batch.model_construct(id="", role=""))


def read_json(given: RawValue) -> Any:
    """
    Decode an input that may be anything.

    :raises BadInputError: when it is not JSON.
    """
    try:
        return workflow.payload_converter().from_payload(given.payload)
    except NewerStateError:
        raise
    except Exception as error:
        told = one_line(str(error), CAUSE_CHARS)
        raise BadInputError(f"the input cannot be read as JSON: {told}") from None


def faults(error: ValidationError) -> str:
    """
    Name the first validation error, and how many more there are.
    """
    found = faults_of(error)
    first = found[0]._replace(place=found[0].place or "whole")
    return first_few([one_line(str(first), CAUSE_CHARS), *found[1:]], 1)


def without_tasks(workflow_id: str) -> Mission:
    return Mission.model_construct(id=workflow_id, goal="", tasks=[])


def refusal(error: BadInputError | ActivityError) -> ApplicationError:
    """
    Make the error that fails a workflow because of its input.
    """
    told = error.cause if isinstance(error, ActivityError) else error
    words = told.message if isinstance(told, ApplicationError) else str(told or error)
    return ApplicationError(words, type=FailureType.BAD_INPUT, non_retryable=True)
