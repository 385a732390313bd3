"""
What agents return beside plain results, and what of it travels: the result itself stays
in the ledger.
"""

from typing import Any

from pydantic import BaseModel, Field, JsonValue

from outlast.contracts.ids import BatchId, Name
from outlast.contracts.tasks import Task
from outlast.contracts.text import SUMMARY_CHARS
from outlast.contracts.wire import WireModel


class Redo(WireModel):
    """
    Return it to have an earlier task redone, and with it all that depends on that.

    :param task: id of the task, which this one depends on.
    :param reason: what is wrong; the redone agent reads it in `ctx.redo_reason`.
    :param result: of this task, used as degraded once `limits.redos` is reached;
        without one, the task is then parked for a person.
    """

    task: Name
    reason: str = Field(min_length=1)
    result: Any = None

    @classmethod
    def of(cls, task: str, reason: str, result: BaseModel) -> "Redo":
        """
        Wrap a result model.
        """
        return cls(task=task, reason=reason, result=result)


class FollowUps(WireModel):
    """
    Return it to give a result and add tasks to the mission.

    :param result: of this task.
    :param tasks: checked as those of a mission; within `limits.tasks` and `depth`.
    """

    result: Any = None
    tasks: list[Task] = Field(default=[])

    @classmethod
    def of(cls, result: BaseModel, tasks: list[Task]) -> "FollowUps":
        """
        Wrap a result model.
        """
        return cls(result=result, tasks=tasks)


class FanOut(WireModel):
    """
    Return it to have items worked through in the pool; the task ends when they are.

    The task's result is `{"batch": ID, "role": ..., "items": COUNT}`, and
    `ctx.batch_results(ID)` reads the results.

    :param role: of the agent that is called for each item.
    :param items: inputs of that agent, checked by its type.
    """

    role: Name
    items: list[dict[str, JsonValue]]


class RedoRequest(WireModel):
    """
    What of a `Redo` travels; its result, if it *has_result*, stays in the ledger.
    """

    task: Name
    reason: str
    has_result: bool


class FanOutRef(WireModel):
    """
    The batch of an agent's fan-out; it is its task's result for those that need it.
    """

    batch: BatchId
    role: Name
    items: int


class ResultRef(WireModel):
    """
    What an attempt reports: the result itself stays in the ledger.
    """

    digest: str
    size: int = 0  # of the result, in bytes as JSON
    attempt: int
    summary: str = Field(default="", max_length=SUMMARY_CHARS)
    degraded: list[str] = Field(default=[])
    follow_ups: list[Task] = Field(default=[])
    fan_out: FanOutRef | None = None
    redo_request: RedoRequest | None = None
