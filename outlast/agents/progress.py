"""
Progress: what an attempt saves as a checkpoint and the next one resumes. Pure.
"""

import hashlib
import json
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from outlast.agents.agent import Agent
from outlast.agents.agent_input import first_fault
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import CheckpointError
from outlast.contracts.sizes import CHECKPOINT_BYTES
from outlast.execution.codec import LossyEncodingError
from outlast.execution.floats import restored

T = TypeVar("T")

# What a heartbeat carries besides the value: seq, version, field names, the message.
CHECKPOINT_ENVELOPE_BYTES = 1024


def encode_progress(
    quickly: bool, agent: Agent, value: Any, kind: Any, largest: int
) -> bytes:
    """
    Write *value* as JSON that is read again as *kind*.

    :param quickly: give up, by SlowCheckError, where it would hold the event loop.
    :raises CheckpointError: when it would not come back as it is, or is too large.
    """
    try:
        body = agent.codec.progress(value, kind, quickly=quickly)
    except LossyEncodingError as loss:
        raise CheckpointError(f"not saved, for it would be lost: {loss}") from None
    if len(body) > largest:
        raise CheckpointError(
            f"progress of {len(body)} bytes is over the cap of {largest} "
            "(OUTLAST_LARGEST_MB): store it elsewhere and save where it lies"
        )
    return body


def next_checkpoint(seq: int, agent: Agent, body: bytes) -> Checkpoint:
    """
    Make the checkpoint of *body*; a large one carries its digest in place of it.
    """
    inline: JsonValue = None
    blob: str | None = None
    if len(body) > CHECKPOINT_BYTES - CHECKPOINT_ENVELOPE_BYTES:
        blob = hashlib.sha256(body).hexdigest()
    else:
        inline = json.loads(body)
    return Checkpoint(
        seq=seq, route=agent.role, version=agent.version, value=inline, blob=blob
    )


def decode_progress(kind: type[T], agent: Agent, version: int, body: bytes) -> T:
    """
    Read as *kind* what *version* of the agent has saved.

    :raises CheckpointError: when it cannot be read so, also by the agent's `migrate`.
    """
    try:
        if version == agent.version:
            return agent.codec.read(kind, body)
        if agent.migrate is None:
            raise CheckpointError(
                f"the checkpoint is of version {version}, agent {agent.role!r} is "
                f"version {agent.version} and migrates nothing: declare its migrate"
            )
        value = agent.migrate(version, restored(json.loads(body)))
        read: T = TypeAdapter(kind).validate_python(value, by_alias=True, by_name=True)
    except ValidationError as error:
        name = getattr(kind, "__name__", str(kind))
        raise CheckpointError(
            f"the checkpoint is no {name}: {first_fault(error)}"
        ) from None
    return read
