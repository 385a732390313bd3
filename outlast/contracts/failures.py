"""
How attempts end without a result: by what type, and by what that was noticed. Both are
set where they are known and travel beside the sentence for people, which nobody reads
back.
"""

from enum import StrEnum


class FailureType(StrEnum):
    """
    The types of the failures that travel through Temporal.
    """

    FAILED = "AgentFailed"  # raised something; retried by the server
    STALE = "StaleAttempt"  # superseded by a later attempt; no failure and no crash
    CRASHED = "WorkerCrashed"  # died with its process, as the fleet's parent says
    # Held by the server for a worker that died before it had begun with it.
    NEVER_STARTED = "NeverStarted"
    DRAINED = "WorkerDrained"  # handed back, by a worker that shuts down or is held
    STORE_AWAY = "StoreAway"  # ended because of the store; counted against nobody
    # In the ledger alone: nobody wrote down its end before that of its mission.
    NOT_RECORDED = "NotRecorded"

    # Those of the errors that agents raise.
    TASK_ERROR = "TaskError"
    TRY_LATER = "TryLater"
    STALLED = "Stalled"
    EXITED = "Exited"
    SERVICE = "Service"
    CIRCUIT_OPEN = "CircuitOpen"
    GIVE_UP = "GiveUp"
    BUDGET_SPENT = "BudgetSpent"
    PARKED = "Parked"
    APPROVAL_NEEDED = "ApprovalNeeded"

    # By which a workflow fails, with its report in the details; BAD_INPUT has none:
    # nothing was begun.
    MISSION_FAILED = "MissionFailed"
    BATCH_FAILED = "BatchFailed"
    BAD_INPUT = "BadInput"


class Detector(StrEnum):
    """
    What noticed the end of an attempt, the fastest first.
    """

    EXIT = "exit_report"  # the parent, which reports a dead process
    WATCHDOG = "watchdog"  # the parent, which has killed the process itself
    HEARTBEAT = "heartbeat"  # the server's heartbeat timeout
    TIMEOUT = "timeout"  # the attempt limit
    FAILURE = "failure"  # the agent raised or stalled; after the back-off
    # Nothing was wrong: its worker was stopped, had no room or was held by the mesh, or
    # its mission goes on in a new run.
    DRAIN = "drain"
    SUPERSEDED = "superseded"  # a later attempt has claimed the task
    NEWER_STATE = "newer_state"  # its worker is of a release too old to read it
    STORE = "store"  # the store was away
    OUTSIDE = "outside"  # somebody completed it from outside with what is no answer
