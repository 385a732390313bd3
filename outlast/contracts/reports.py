"""
What is told of a mission: how it goes, and how it ended.

Nothing here is ever undecided: each task ends in one Status, each mission in a Report
that lists what it lacks and why.
"""

from enum import StrEnum

from pydantic import Field

from outlast.contracts.approvals import WantedEffect
from outlast.contracts.names import Moment, Name
from outlast.contracts.state import Contract


class Status(StrEnum):
    """
    How a task or a mission ends.
    """

    DONE = "done"
    DEGRADED = "degraded"
    SKIPPED = "skipped"
    PARKED = "parked"
    DEAD = "dead"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Outcome(Contract):
    """
    How one task ended. *route* is the role that really did it.
    """

    id: Name
    role: Name
    route: Name
    status: Status
    attempts: int = 0
    required: bool = True
    reasons: list[str] = Field(default=[])
    summary: str = ""
    round: int = 1
    # A budget was spent: what needs it goes on without it.
    forgone: bool = False
    approval: str = ""  # what a person, or the deadline, has said


class Report(Contract):
    """
    How a mission ended, with what it lacks and why.
    """

    mission: Name
    status: Status
    tasks: list[Outcome]
    degraded: list[str] = Field(default=[])


class Running(Contract):
    """
    A task that is under way.
    """

    id: Name
    role: Name
    route: Name
    waits: str = ""  # parked: what for


class Asked(Contract):
    """
    A task that waits for a person: *about* says for what.

    :param request: names what is asked, so that an answer is to what was seen.
    """

    id: Name
    before: Moment
    about: str = ""
    effects: list[WantedEffect] = Field(default=[])
    request: str = ""

    def answer(self, mission: str) -> str:
        """
        What follows `approve` or `reject` on the command line.
        """
        request = f" --request {self.request}" if self.request else ""
        return f"{mission} {self.id}{request}"


class Progress(Contract):
    """
    The answer to the query `progress`.
    """

    mission: Name
    paused: bool
    waiting: list[Name]
    running: list[Running]
    settled: list[Outcome]
    asked: list[Asked] = Field(default=[])
