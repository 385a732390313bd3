"""
Tasks and what they, and their mission, may use.
"""

from pydantic import Field, JsonValue

from outlast.contracts.approvals import Approval
from outlast.contracts.ids import Name, WorkId
from outlast.contracts.wire import WireModel


class Budget(WireModel):
    """
    What one task may use, over all its attempts and rounds; None: no limit.

    :param tokens: as `ctx.save` and `ctx.record_usage` count them.
    :param cost: in any unit, likewise.
    :param time_s: a round's length in seconds, waiting included.
    """

    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    time_s: float | None = Field(default=None, gt=0, le=30 * 86_400)


class Stored(WireModel):
    """
    A reference to a value too large to travel, in the store under the mission *owner*.
    """

    owner: WorkId
    digest: str
    size: int  # in bytes


class Task(WireModel):
    """
    One unit of work for one role.

    :param id: unique within the mission.
    :param role: of the agent; "mission" for a mission as its input.
    :param input: JSON that fits the agent's type; results of needed tasks are added to
        it, by task id, in its field `needs`.
    :param needs: ids of the tasks that must have ended before.
    :param required: the mission has failed if it has; an optional one may be skipped.
    :param approval: of a person, before it starts or acts.
    :param budget: of tokens, cost and time, beside the mission's.
    """

    id: Name
    role: Name
    input: dict[str, JsonValue] = Field(default={})
    stored: Stored | None = None  # a large input: see inputs.py
    needs: list[Name] = Field(default=[])
    required: bool = True
    approval: Approval | None = None
    budget: Budget = Budget()


class Limits(WireModel):
    """
    What a mission may use.

    :param concurrency: tasks at a time.
    :param tasks: in all, with those that agents add.
    :param depth: of follow-ups of follow-ups.
    :param deadline_s: seconds from its start; what has not ended then is skipped.
    :param tokens: over all tasks; None: no limit.
    :param cost: over all tasks, in any unit; None: no limit.
    :param redos: how often agents may have one task redone before a person must look.
    :param generations: how deep missions may lie within this one.
    """

    concurrency: int = Field(default=8, ge=1, le=100)
    tasks: int = Field(default=100, ge=1, le=5_000)
    depth: int = Field(default=20, ge=1, le=5_000)
    deadline_s: float = Field(default=86_400.0, gt=0, le=30 * 86_400)
    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0)
    redos: int = Field(default=2, ge=0, le=10_000)
    generations: int = Field(default=3, ge=0, le=10)
