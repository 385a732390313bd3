"""
Every error of Outlast, sorted by what the caller does next.

    OutlastError
    ├── BadInputError            mend the input: one sentence, exit code 2
    │   └── TooManyError         retry later: too many open missions
    ├── MalformedMessageError    count it and continue: a peer's message is unreadable
    ├── UnavailableError         retry later: something outside is away
    │   ├── PortTakenError       try another port
    │   └── StoreError           the store refuses the call
    │       ├── StoreUnavailableError  wait: nothing of the call was written
    │       └── StoreLostError   stop the fleet: waiting does not bring it back
    ├── WorkerStartError         start again, a few times
    ├── RefusedError             stop: another process has the right to this
    │   ├── StaleAttemptError    a later attempt of the same task has claimed it
    │   ├── UnknownRunError      ask the server which run is current, then claim again
    │   ├── RunSuspendedError    the mesh has not renewed its permit
    │   └── NewerStateError      a later release has written it, and must read it
    └── TaskError                raised by or for an agent; decides what its task does
        ├── TryLater             retry, after the delay it names
        ├── StalledError         retry: alive without progress for too long
        ├── AgentExitedError     retry: the agent raised what ends processes
        ├── ServiceError         retry: an outside service has failed
        ├── CircuitOpenError     the next route, or wait: a service is not called
        ├── GiveUp               dead-letter: no attempt can succeed
        │   ├── BudgetExceededError  the next route, or the mission continues without it
        │   ├── MissingSecretError
        │   ├── OutsideFolderError
        │   ├── UnawaitedError
        │   ├── EffectConflictError
        │   ├── CheckpointError
        │   └── ResultError      it is paid for: another try would be paid for too
        └── ParkedError          park: a person must look first
            └── ApprovalNeededError  ... and decide whether effects may happen

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
    Too many open missions; retry later.
    """


class MalformedMessageError(OutlastError):
    """
    A message of another peer cannot be read; nothing of it was used.
    """


class UnavailableError(OutlastError):
    """
    Something outside is away; the message says what to do.
    """


class PortTakenError(UnavailableError):
    """
    Another process has taken a port since it was chosen.
    """


class StoreError(UnavailableError):
    """
    The store refuses the call. Its subclasses are about the store itself:
    `store/outages.py` tells them apart.
    """


class StoreUnavailableError(StoreError):
    """
    The store is away for now: nothing of the call was written, and it may be repeated.

    :param maybe_written: the call may have been written: callers wait only a little.
    """

    def __init__(self, reason: str, maybe_written: bool = False) -> None:
        super().__init__(reason)
        self.maybe_written = maybe_written


class StoreLostError(StoreError):
    """
    The open store is lost: it is corrupt, gone, or another one.
    """


class WorkerStartError(OutlastError):
    """
    A function under `@on_worker_start` has failed: its worker cannot work.
    """


class RefusedError(OutlastError):
    """
    A call is refused because another process has the right to it.
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
    last one: a new run, or an old one; or the ledger was restored in part, or changed
    by hand.

    :param last: the number of the last run, 0 where there is none.
    """

    def __init__(self, mission: str, last: int) -> None:
        super().__init__(f"{mission}: the ledger does not know this run of it")
        self.last = last


class RunSuspendedError(RefusedError):
    """
    A run of the mesh has waited too long for its permit.
    """


class NewerStateError(RefusedError):
    """
    State with a higher schema number than this release knows.
    """


class TaskError(OutlastError):
    """
    An error that decides what its task does next.
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
        # Picklable: it may be raised in a process that the agent has started.
        return type(self), (self.after, str(self))


def _delay(after: timedelta | float) -> timedelta:
    """
    Read a delay in seconds. One that is none is refused here, at the agent's own line,
    since the error of the server's client would not explain it.
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
        Say for how long there was no progress, and at which line of the agent.
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
    The crew does not call a failing service for now: an agent may catch it and ask
    another service; else the task takes its next route at once, and without one it
    waits for the service.
    """

    kind = FailureType.CIRCUIT_OPEN

    def __init__(self, reason: str, service: str = "") -> None:
        super().__init__(reason)
        self.service = service


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
    A call of the context that was not awaited, and so did nothing.
    """


class EffectConflictError(GiveUp):
    """
    An effect whose key has another effect in the same round: which one was meant is
    unknown.
    """


class CheckpointError(GiveUp):
    """
    Saved progress that this version of the agent cannot read, or that would not come
    back as it is.
    """


class ResultError(GiveUp):
    """
    A result that is no JSON, would not reach others unchanged, or is over the cap. It
    is paid for, and another try would have to be paid for too.
    """


class ParkedError(TaskError):
    """
    A person must look first, for instance at an effect that may have happened.
    """

    kind = FailureType.PARKED


class ApprovalNeededError(ParkedError):
    """
    Effects that a person must approve before they happen: all that the attempt wants.
    """

    kind = FailureType.APPROVAL_NEEDED

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[WantedEffect] = []

    @property
    def full(self) -> bool:
        return len(self.wanted) >= MAX_WANTED_EFFECTS

    def add(self, effect: WantedEffect) -> None:
        if effect not in self.wanted and not self.full:
            self.wanted.append(effect)

    def __str__(self) -> str:
        told = "; ".join(each.describe for each in self.wanted)
        return one_line(told, CAUSE_CHARS)
