"""
Every error of Outlast, sorted by what the caller does next.

    OutlastError
    ├── BadInputError         mend the input: one sentence, exit code 2, nothing started
    ├── MalformedMessageError       count it and go on: what a peer said makes no sense
    ├── UnavailableError      try again later: something outside is away
    │   ├── PortTakenError    try another port: somebody was faster to this one
    │   └── StoreError        the store refuses what was asked of it
    │       ├── StoreUnavailableError  wait: nothing of the call was written
    │       └── StoreLostError  stop the fleet: no waiting brings it back
    ├── WorkerStartError      start again, a few times: what agents open failed
    ├── RefusedError          stop: somebody else is right
    │   ├── StaleAttemptError a later attempt of the same task has claimed it
    │   ├── UnknownRunError   ask the server which run is current, then claim again
    │   ├── RunSuspendedError      the mesh has not renewed its permit
    │   └── NewerStateError   a later release has written it, and must read it
    └── TaskError             raised by or for an agent; decides how its task goes on
        ├── TryLater          retry, after the delay it names
        ├── StalledError      retry: alive without progress for too long
        ├── AgentExitedError       retry: the agent raised what ends processes
        ├── ServiceError      retry: an outside service has failed
        ├── CircuitOpenError  the next route: a service is left alone for now; an agent
        │                     may catch it and ask another one
        ├── GiveUp            give up: no attempt can succeed, the task is a dead letter
        │   ├── BudgetExceededError
        │   ├── MissingSecretError
        │   ├── OutsideFolderError     a path that missions may not use on this worker
        │   ├── UnawaitedError   a call of the context that nobody has awaited
        │   ├── EffectConflictError  another effect stands under its key
        │   ├── CheckpointError  progress that this version cannot read, or would lose
        │   └── ResultError      what was returned cannot be kept: it is paid for, once
        └── ParkedError       escalate: a person must look before it may go on
            └── ApprovalNeededError  and says whether the effect may happen

Temporal matches non-retryable types by exact class name, so `kind` carries the
name of the branch, and that of a subclass only where the workflow decides otherwise.
"""

from datetime import timedelta
from typing import Any, Self

from outlast.contracts.approvals import WantedEffect
from outlast.contracts.failures import FailureType
from outlast.contracts.text import CAUSE_CHARS, one_line

# Effects that one person is asked about at once.
MAX_WANTED_EFFECTS = 20

# A mission lasts no longer, and neither does the delay that an agent asks for.
MAX_RETRY_DELAY_S = 30 * 86_400


class OutlastError(Exception):
    """
    The root: catch it at a process's edge, print the sentence, exit.
    """


class BadInputError(OutlastError):
    """
    What the user gave cannot be used; the message says what to change.
    """


class TooManyError(BadInputError):
    """
    As much is under way as may be: the same later is taken.
    """


class MalformedMessageError(OutlastError):
    """
    What another peer has sent cannot be read; nothing of it was taken.
    """


class UnavailableError(OutlastError):
    """
    Something outside is away; the message says what to do.
    """


class PortTakenError(UnavailableError):
    """
    A port that was free when it was chosen is somebody else's now.
    """


class StoreError(UnavailableError):
    """
    The store refuses what was asked of it. The others say what is about the store
    itself: `store/outages.py` tells them apart.
    """


class StoreUnavailableError(StoreError):
    """
    The store is away for now: nothing of the call stands, and it may be made again.

    :param maybe_written: it is waited for a little only.
    """

    def __init__(self, reason: str, maybe_written: bool = False) -> None:
        super().__init__(reason)
        self.maybe_written = maybe_written


class StoreLostError(StoreError):
    """
    The store is lost to whoever has it open: it is corrupt, gone, or another one.
    """


class WorkerStartError(OutlastError):
    """
    A function under `@on_worker_start` has failed: its worker cannot work.
    """


class RefusedError(OutlastError):
    """
    What was asked is refused because somebody else is right.
    """


class StaleAttemptError(RefusedError):
    """
    A write by an attempt that a later one has superseded; nothing was written.

    :param highest: the fence of the later one; 0 where it is unknown.
    """

    def __init__(self, reason: str, highest: int = 0) -> None:
        super().__init__(reason)
        self.highest = highest


class UnknownRunError(RefusedError):
    """
    A claim by an attempt of a run of the mission's workflow that is not the ledger's
    last one: a new run, or an old one. Also where the ledger was restored in part, or
    changed by hand, and nothing of the run could come after the claim that it has.

    :param last: the number of the last run, 0 where there is none.
    """

    def __init__(self, mission: str, last: int) -> None:
        super().__init__(f"{mission}: the ledger does not know this run of it")
        self.last = last


class RunSuspendedError(RefusedError):
    """
    A run of the mesh that has waited too long here for the word that it may go on.
    """


class NewerStateError(RefusedError):
    """
    State with a higher schema number than this release knows. It is not guessed at.
    """


class TaskError(OutlastError):
    """
    An agent's own word on how its task goes on.
    """

    kind = FailureType.TASK_ERROR


class TryLater(TaskError):  # noqa: N818 - reads as what the agent says
    """
    Raise it to be retried later, for instance when a service asks for a pause.
    """

    kind = FailureType.TRY_LATER

    def __init__(
        self, after: timedelta | float, reason: str = "asked to try later"
    ) -> None:
        """
        :param after: a timedelta, or seconds; at most 30 days.
        :param reason: for the log and the report.
        :raises TypeError, ValueError: when it is neither, negative or over 30 days.
        """
        super().__init__(_as_text(reason))
        self.after = _delay(after)

    def __reduce__(self) -> tuple[Any, ...]:
        # As it was made: it may be raised in a process that the agent has started.
        return type(self), (self.after, str(self))


def _delay(after: timedelta | float) -> timedelta:
    """
    Read a delay in seconds. What is no delay is refused here, in the agent's own line:
    it would be a mystery to the server's client.
    """
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if isinstance(after, bool) or not isinstance(after, int | float):
        raise TypeError(
            f"TryLater(after): seconds or a timedelta, not {type(after).__name__}"
        )
    if not 0 <= after <= MAX_RETRY_DELAY_S:  # nan neither
        raise ValueError(
            f"TryLater(after): from 0 to {MAX_RETRY_DELAY_S} seconds (30 days), not "
            f"{one_line(str(after), 30)}"
        )
    return timedelta(seconds=float(after))


def _as_text(reason: object) -> str:
    if reason is None or isinstance(reason, str):
        return reason or ""
    try:
        told = str(reason)
    except Exception:
        told = ""
    return told or type(reason).__name__


class StalledError(TaskError):
    """
    The agent was alive and made no progress within its stall limit.
    """

    kind = FailureType.STALLED

    @classmethod
    def after(cls, seconds: float, place: str) -> Self:
        """
        Say for how long there was no progress, and at which line of the agent's.
        """
        at = f", at {place}" if place else ""
        return cls(
            f"alive, with no progress for {seconds:g} s{at}; work that takes so long "
            "calls ctx.emit meanwhile, or its policy says a larger stall_s"
        )


class AgentExitedError(TaskError):
    """
    An agent that exits, or raises anything else that is no Exception, ends its
    attempt, not the process with its neighbours.
    """

    kind = FailureType.EXITED


class ServiceError(TaskError):
    """
    An outside service did not answer, or not with what it should.
    """

    kind = FailureType.SERVICE


class CircuitOpenError(TaskError):
    """
    The breaker of an outside service is open: an agent may catch it and ask another
    service; else the task takes its next route at once.
    """

    kind = FailureType.CIRCUIT_OPEN


class GiveUp(TaskError):  # noqa: N818 - reads as what the agent says
    """
    Raise it when no attempt can succeed: not retried; the task takes its next route, or
    is a dead letter with these reasons.
    """

    kind = FailureType.GIVE_UP

    def __init__(self, *reasons: object) -> None:
        told = ", ".join(filter(None, map(_as_text, reasons)))
        super().__init__(told or "the agent gave no reason")


class BudgetExceededError(GiveUp):
    """
    The tokens or cost of the mission or the task are spent.
    """

    kind = FailureType.BUDGET_SPENT


class MissingSecretError(GiveUp):
    """
    A secret that this worker was not given.
    """


class OutsideFolderError(GiveUp):
    """
    A file or folder outside of those that missions may use on this worker.
    """


class UnawaitedError(GiveUp):
    """
    A call of the context that nobody has awaited: it did nothing, whatever the agent
    returned.
    """


class EffectConflictError(GiveUp):
    """
    An effect whose key has another one in the same round: what was meant is not known.
    """


class CheckpointError(GiveUp):
    """
    Saved progress that this version of the agent cannot read, or that would not come
    back as it is.
    """


class ResultError(GiveUp):
    """
    A result that is no JSON, would not reach others as it is, or is over the cap. It is
    paid for, and another try would have to be paid for as well.
    """


class ParkedError(TaskError):
    """
    A person must look first, for instance at an effect that may have happened.
    """

    kind = FailureType.PARKED


class ApprovalNeededError(ParkedError):
    """
    Effects that a person has to approve before they happen: all that the attempt has
    asked for until it ends.
    """

    kind = FailureType.APPROVAL_NEEDED

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[WantedEffect] = []

    @property
    def full(self) -> bool:
        return len(self.wanted) >= MAX_WANTED_EFFECTS

    def add(self, effect: WantedEffect) -> None:
        """
        Add an effect, once, as long as there is room.
        """
        if effect not in self.wanted and not self.full:
            self.wanted.append(effect)

    def __str__(self) -> str:
        told = "; ".join(each.describe for each in self.wanted)
        return one_line(told, CAUSE_CHARS)
