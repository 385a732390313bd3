"""
How long recovery takes under a `Timing`. One that contradicts itself, or cannot recover
in time, is refused before anything starts.
"""

from dataclasses import dataclass

from outlast.contracts.errors import BadInputError
from outlast.contracts.retries import BACKOFF_FIRST_S
from outlast.contracts.timing import LEAST_TICKS, SDK_GRACE_S, Timing


@dataclass(frozen=True)
class RecoveryEstimate:
    """
    The worst seconds from a fault to new progress, and the setting it hangs on.

    :param patient: the fault looks like slow work, which is given its time: no target
        is set for it.
    """

    fault: str
    worst_s: float
    by: str
    patient: bool = False


def predict_recovery(timing: Timing) -> list[RecoveryEstimate]:
    """
    Predict the worst recovery of each fault under *timing*.
    """
    after = timing.timer_slack_s + timing.dispatch_s
    killed = timing.tick_s + timing.check_s + timing.kill_s + timing.dispatch_s
    one_host = not timing.parent_heartbeats  # and nobody is left when that is lost
    stopped_s, blocked_s = timing.stopped_limit_s, timing.blocked_limit_s
    row = RecoveryEstimate
    return [
        row("agent process killed", timing.dispatch_s, "dispatch_s"),
        row("agent process frozen", stopped_s + killed, "stopped_limit_s"),
        row("event loop blocked", blocked_s + killed, "blocked_limit_s", patient=True),
        row(
            "host lost, or its link",
            timing.heartbeat_timeout_s + after,
            "heartbeat_timeout_s",
            patient=one_host,
        ),
        row(
            "workflow process lost, unreported, idle",
            timing.sticky_s + after,
            "sticky_s",
        ),
        row(
            "workflow process lost, during a task",
            timing.workflow_task_s + after,
            "workflow_task_s",
        ),
        row("agent raised, first retry", BACKOFF_FIRST_S + after, "BACKOFF_FIRST_S"),
    ]


def validate_timing(timing: Timing, target_s: float) -> None:
    """
    Refuse a *timing* that contradicts itself or cannot recover within *target_s*.

    :raises BadInputError: in one sentence.
    """
    for contradiction in (
        _of_heartbeats(timing),
        _of_limits(timing),
        _of_silence(timing),
    ):
        if contradiction:
            raise BadInputError(contradiction)
    bound = [each for each in predict_recovery(timing) if not each.patient]
    worst = max(bound, key=lambda each: each.worst_s)
    if worst.worst_s > target_s:
        raise BadInputError(
            f"{worst.fault}: recovery may take {worst.worst_s:.2f} s, over the target "
            f"of {target_s:g} s; lower {worst.by}"
        )


def _of_heartbeats(timing: Timing) -> str | None:
    if timing.heartbeat_s * 2 <= timing.heartbeat_timeout_s:
        return None
    return (
        f"a heartbeat every {timing.heartbeat_s:g} s leaves no room to lose one in a "
        f"heartbeat timeout of {timing.heartbeat_timeout_s:g} s"
    )


def _of_limits(timing: Timing) -> str | None:
    least_s = LEAST_TICKS * timing.tick_s
    for name in ("stopped_limit_s", "blocked_report_s"):
        if getattr(timing, name) < least_s:
            return (
                f"{name} of {getattr(timing, name):g} s would take healthy processes "
                f"for silent ones, which give a sign every {timing.tick_s:g} s: choose "
                f"at least {least_s:g}"
            )
    if timing.blocked_report_s <= timing.blocked_limit_s <= timing.starved_limit_s:
        return None
    return (
        f"the limits of a silent worker do not grow: told after "
        f"{timing.blocked_report_s:g} s, killed after {timing.blocked_limit_s:g} s "
        f"when blocked and {timing.starved_limit_s:g} s when starved"
    )


def _of_silence(timing: Timing) -> str | None:
    """
    Say how a worker that works hard would be taken for a lost host.
    """
    if not timing.parent_heartbeats:
        return None
    looks_s = timing.tick_s + timing.check_s
    first_s = timing.heartbeat_s + timing.parent_heartbeats_after_s + looks_s
    if first_s >= timing.heartbeat_timeout_s:
        return (
            f"a heartbeat timeout of {timing.heartbeat_timeout_s:g} s ends attempts of "
            f"a silent worker before its parent sends heartbeats for it, {first_s:g} s "
            "after its last: raise heartbeat_timeout_s or lower heartbeat_s"
        )
    bearable_s = timing.heartbeat_timeout_s + SDK_GRACE_S
    if timing.silence_s < bearable_s:
        return None
    return (
        f"a worker may be silent for {timing.silence_s:g} s, and {bearable_s:g} s "
        "after its last heartbeat its attempts are cancelled whatever it does: lower "
        "a limit of its silence, as OUTLAST_UNRESPONSIVE_S, or raise "
        "heartbeat_timeout_s"
    )
