"""
What is told to a mission under way.
"""

from pydantic import Field

from outlast.contracts.names import Name
from outlast.contracts.state import Contract


class Sighting(Contract):
    """
    What a lookout has seen: attempts that nobody can take, and the roles that are
    played at all.
    """

    stranded: list[str] = Field(default=[])
    live: list[Name] = Field(default=[])


class Decision(Contract):
    """
    A person's word on a task that waits for it.
    """

    task: Name
    reason: str = ""
