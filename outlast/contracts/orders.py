"""
What is told to a mission under way.
"""

from pydantic import Field

from outlast.contracts.ids import Name
from outlast.contracts.wire import Contract


class Sighting(Contract):
    """
    What a lookout has seen: attempts that nobody can take, and the roles that are
    played at all.
    """

    stranded: list[str] = Field(default=[])
    live: list[Name] = Field(default=[])


class Decision(Contract):
    """
    A person's decision on a task that waits for it.

    :param request: what was asked, as they have seen it; "" for whatever it is.
    :param skip: approve it, and let earlier effects stand for those that have changed.
    """

    task: Name
    reason: str = ""
    request: str = ""
    skip: bool = False
