"""
What the updates of a running mission are given.
"""

from pydantic import Field

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.ids import Name
from outlast.contracts.wire import WireModel


class DecisionInput(WireModel):
    """
    A person's decision on a task that waits for it.

    :param request: what was asked, as they have seen it; "" for whatever it is.
    :param skip: approve it, and let earlier effects stand for those that have changed.
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
    What a lookout has seen: attempts that nobody can take, and the roles that are
    played at all.
    """

    activity_ids: list[str] = Field(default=[])
    served_roles: list[Name] = Field(default=[])
