"""
What the updates of a running mission are given.
"""

from pydantic import Field

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import Name
from outlast.contracts.wire import WireModel


class DecisionInput(WireModel):
    """
    A person's decision on a task that waits for approval.

    :param request: names the request that they have seen; "" for any.
    :param skip: approve it, and use the results of earlier effects for changed ones.
    """

    task: Name
    reason: str = ""
    request: str = ""
    skip: bool = False


class Redrive(WireModel):
    """
    Tasks to be done again, each from the checkpoint that it came to.
    """

    tasks: list[Name] = Field(min_length=1)
    checkpoints: dict[Name, Checkpoint] = Field(default={})


class UnservedTasks(WireModel):
    """
    Attempts in queues without a live worker, and the roles that have one.
    """

    activity_ids: list[str] = Field(default=[])
    served_roles: list[Name] = Field(default=[])
