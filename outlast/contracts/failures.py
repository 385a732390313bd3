"""
How attempts end without a result, and what noticed it. Both are set where they are
known and travel beside the message for people, which no code parses.
"""

from enum import StrEnum


class FailureType(StrEnum):
    """
    The types of the failures that travel through Temporal.
    """

    FAILED = "AgentFailed"  # raised something; retried by the server
    STALE = "StaleAttempt"  # superseded by a later attempt; no failure and no crash
    CRASHED = "WorkerCrashed"  # died with its process, as the fleet's parent says
    # The server had handed it to a worker that died before it began.
    NEVER_STARTED = "NeverStarted"
    DRAINED = "WorkerDrained"  # handed back by a worker that drains or is suspended
    STORE_AWAY = "StoreAway"  # ended because of the store; not counted
    SERVICE_AWAY = "ServiceAway"  # waits for an outside service; not counted
    # In the ledger alone: its end was not recorded before that of its mission.
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

    # Of workflows, with their report in the details; BAD_INPUT has none: nothing began.
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
    # No failure: its worker was stopped, had no room or was suspended by the mesh, or
    # its mission continues in a new run.
    DRAIN = "drain"
    SUPERSEDED = "superseded"  # a later attempt has claimed the task
    NEWER_STATE = "newer_state"  # its worker is of a release too old to read it
    STORE = "store"  # the store was away
    SERVICE = "service"  # an outside service was away
    OUTSIDE = "outside"  # another client completed it, without a valid result
