"""
What an attempt is given, and what it sends while it runs.
"""

from pydantic import Field, JsonValue

from outlast.contracts.failures import Detector
from outlast.contracts.ids import Name, WorkId
from outlast.contracts.retries import Policy
from outlast.contracts.scopes import Scope
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.versioned import VersionedModel
from outlast.contracts.wire import WireModel


class Checkpoint(WireModel):
    """
    Saved progress: *seq* counts the saves of this task's round.
    """

    seq: int = 0
    route: str = ""  # the role that saved it: another route cannot read it
    version: int = 1
    value: JsonValue = None
    blob: str | None = None  # digest of a value too large to travel


class Heartbeat(WireModel):
    """
    What travels in Temporal's heartbeat: the checkpoint, and the last status message.
    """

    checkpoint: Checkpoint = Checkpoint()
    status_message: str = ""


class AttemptInput(VersionedModel):
    """
    The input of an attempt: its task, its checkpoint, and how the last attempt ended.
    """

    mission: WorkId  # or the batch that an item is of
    tenant: Name
    task: Task
    store: str = ""  # id of the store with the mission's record
    round: int = 1
    needs: list[Name] = Field(default=[])  # tasks that have a result
    policy: Policy = Policy()
    limits: Limits = Limits()
    # Counts what the mission's workflow dispatches: see `AttemptOrder`.
    dispatch: int = 0
    # No other route is left: where a service is away, the task waits for it.
    last_route: bool = False
    checkpoint: Checkpoint | None = None
    # How the attempt before this one ended, in words, and what noticed it.
    previous_failure: str | None = None
    detected_by: Detector | None = None
    redo_reason: str | None = None  # why there is a round after the first
    scope: Scope | None = None  # where its effects' keys belong; None: its mission
    approved: list[str] = Field(default=[])  # effects, by digest
    skipped: list[str] = Field(default=[])  # effects that an earlier one replaces
