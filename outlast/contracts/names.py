"""
How things are named: what users choose, and what is made of it for the server.
"""

from typing import Annotated, Literal

from pydantic import StringConstraints

MISSIONS_QUEUE = "outlast-missions"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
NAME_CHARS = 100

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_CHARS)]

# A mission has the id of its workflow. A Schedule's ends in a time, with colons.
MISSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$"
MISSION_CHARS = 100

MissionName = Annotated[
    str, StringConstraints(pattern=MISSION_PATTERN, max_length=MISSION_CHARS)
]

# A batch that a task has spread is named after its mission, the task and the round.
BatchName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:#-]*$", max_length=210),
]

# Before which a person may have to approve a task.
Moment = Literal["start", "effect"]


def batch_of(mission: str, task: str, round_: int = 1) -> str:
    """
    Name the batch that a round of a task spreads; no name of a user's holds a '#'.
    """
    return f"{mission}#{task}" if round_ == 1 else f"{mission}#{task}#{round_}"


def round_of(batch: str) -> int:
    """
    Read the round back from a `batch_of`; 1 where nobody has spread the batch.
    """
    parts = batch.split("#")
    return int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() else 1


def queue_of(role: str) -> str:
    """
    Name the task queue on which workers that host *role* listen.
    """
    return f"outlast-role-{role}"


def alone_queue_of(role: str) -> str:
    """
    Name the task queue for tasks of *role* that are suspected of killing their process.
    """
    return f"outlast-alone-{role}"


def attempt_id(task: str, route: str, dispatch: int) -> str:
    """
    Name a dispatch in the history; no name holds a '#'.
    """
    return f"{task}#{route}#{dispatch}"


def task_of(attempt_id: str) -> str:
    """
    Read the task back from an `attempt_id`.
    """
    return attempt_id.split("#", 1)[0]


def route_of(attempt_id: str) -> str | None:
    """
    Read the route back; None where the activity is no attempt of a task.
    """
    parts = attempt_id.split("#")
    return parts[1] if len(parts) == 3 else None
