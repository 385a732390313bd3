"""
The numbers that decide about failure, and what is refused because of them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.contracts.retries import (
    BACKOFF_CAP_S,
    BACKOFF_FACTOR,
    BACKOFF_FIRST_S,
    backoff_s,
)
from outlast.contracts.timing import (
    DEFAULT_TIMING,
    SDK_GRACE_S,
    SEVERAL_HOSTS,
    STOCK_TIMER_SLACK_S,
    Timing,
)
from outlast.contracts.timing_validation import predict_recovery, validate_timing

TARGET_S = 2.5

failures = st.integers(1, 60)
draws = st.floats(0, 1, exclude_max=True)


@given(failures, draws)
def test_a_delay_lies_between_half_and_whole_of_its_step(
    count: int, draw: float
) -> None:
    """
    Jitter takes at most half away and adds nothing, up to the cap.
    """
    step = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * BACKOFF_FACTOR ** (count - 1))
    assert step / 2 < backoff_s(count, draw) <= step <= BACKOFF_CAP_S


@given(failures, draws)
def test_a_later_failure_never_waits_less(count: int, draw: float) -> None:
    """
    With equal luck, delays only grow.
    """
    assert backoff_s(count, draw) <= backoff_s(count + 1, draw)


def test_the_delays_are_those_that_the_design_names() -> None:
    """
    0.2 s, then x3, at most 30 s.
    """
    delays = [round(backoff_s(count, 0.0), 6) for count in range(1, 8)]
    assert delays == [0.2, 0.6, 1.8, 5.4, 16.2, 30.0, 30.0]


def test_tasks_that_failed_together_return_apart() -> None:
    """
    Without a given draw the jitter is random, within the same bounds.
    """
    drawn = {backoff_s(3) for _ in range(50)}
    assert len(drawn) > 10
    assert 0.9 <= min(drawn) <= max(drawn) <= 1.8


def test_no_failure_yet_waits_as_the_first() -> None:
    """
    A count of 0, which a broken store may report, is no negative power.
    """
    assert backoff_s(0, 0.0) == BACKOFF_FIRST_S


def test_the_worst_recoveries_are_the_sum_of_what_is_waited_for() -> None:
    """
    Noticing + the server's slack + dispatch, for each fault.
    """
    timing = Timing(
        heartbeat_timeout_s=10.0,
        stopped_limit_s=2.0,
        blocked_limit_s=4.0,
        sticky_s=20.0,
        workflow_task_s=30.0,
        timer_slack_s=0.5,
        dispatch_s=0.25,
    )
    worst = {each.fault: each.worst_s for each in predict_recovery(timing)}
    assert worst == {
        "agent process killed": 0.25,
        "agent process frozen": pytest.approx(2.0 + 0.3 + 0.25),
        "event loop blocked": pytest.approx(4.0 + 0.3 + 0.25),
        "host lost, or its link": 10.75,
        "workflow process lost, unreported, idle": 20.75,
        "workflow process lost, during a task": 30.75,
        "agent raised, first retry": BACKOFF_FIRST_S + 0.75,
    }


@pytest.mark.parametrize(
    "fault", predict_recovery(DEFAULT_TIMING), ids=lambda each: each.fault
)
def test_each_recovery_names_the_setting_that_it_hangs_on(fault) -> None:
    """
    Raising the named setting by a second raises that recovery by a second.
    """
    if fault.by == "BACKOFF_FIRST_S":
        assert fault.worst_s > BACKOFF_FIRST_S
        return
    slower = DEFAULT_TIMING.model_copy(
        update={fault.by: getattr(DEFAULT_TIMING, fault.by) + 1}
    )
    after = {each.fault: each.worst_s for each in predict_recovery(slower)}
    assert after[fault.fault] == pytest.approx(fault.worst_s + 1)


@pytest.mark.parametrize(
    "timing", [DEFAULT_TIMING, SEVERAL_HOSTS], ids=["file", "postgresql"]
)
def test_the_shipped_configurations_keep_their_promise(timing: Timing) -> None:
    """
    What we ship does not contradict itself, and recovers within 2.5 s from every fault
    that does not look like slow work.
    """
    validate_timing(timing, TARGET_S)


def test_a_server_that_is_not_tuned_cannot_keep_it() -> None:
    """
    A second of timer slack is a second of every recovery.
    """
    with pytest.raises(BadInputError):
        validate_timing(Timing(timer_slack_s=STOCK_TIMER_SLACK_S), TARGET_S)


@pytest.mark.parametrize(
    ("slow", "fault"),
    [
        ({"stopped_limit_s": 3.0}, "agent process frozen"),
        ({"sticky_s": 10.0}, "workflow process lost, unreported, idle"),
        ({"workflow_task_s": 10.0}, "workflow process lost, during a task"),
    ],
)
def test_a_target_that_cannot_be_met_is_refused(slow, fault: str) -> None:
    """
    The sentence names the worst fault, its seconds, the target and what to lower.
    """
    timing = DEFAULT_TIMING.model_copy(update=slow)
    with pytest.raises(BadInputError) as refusal:
        validate_timing(timing, TARGET_S)
    told = told_in_one_sentence(refusal.value)
    assert told.startswith(f"{fault}: ")
    assert "2.5 s" in told
    assert told.endswith(f"lower {next(iter(slow))}")


@pytest.mark.parametrize("beat_s", [0.76, 1.5, 3.0])
def test_a_beat_without_room_for_a_lost_one_is_refused(beat_s: float) -> None:
    """
    Two beats must fit into the heartbeat timeout, however generous the target is.
    """
    with pytest.raises(BadInputError) as refusal:
        validate_timing(SEVERAL_HOSTS.model_copy(update={"heartbeat_s": beat_s}), 3600)
    told = told_in_one_sentence(refusal.value)
    assert f"{beat_s:g} s" in told
    assert "1.5 s" in told


def test_a_lost_host_is_noticed_in_time_where_another_can_go_on() -> None:
    """
    With PostgreSQL that is part of the promise; with a file nobody is left anyway.
    """
    slow = {"heartbeat_timeout_s": 3.0}
    with pytest.raises(BadInputError, match="host lost"):
        validate_timing(SEVERAL_HOSTS.model_copy(update=slow), TARGET_S)


def test_with_a_file_working_hard_is_never_taken_for_being_lost() -> None:
    """
    The heartbeat timeout is the last detector: a process that the watchdog would let
    live keeps its attempts without anybody's help.
    """
    assert not DEFAULT_TIMING.parent_heartbeats
    assert (
        DEFAULT_TIMING.heartbeat_timeout_s
        > DEFAULT_TIMING.silence_s
        > DEFAULT_TIMING.blocked_limit_s
    )


def test_with_several_hosts_the_parent_sends_heartbeats_for_the_silent() -> None:
    """
    The stated exception: the timeout is shorter than the watchdog's limits.
    """
    assert SEVERAL_HOSTS.parent_heartbeats
    assert SEVERAL_HOSTS.silence_s < SEVERAL_HOSTS.heartbeat_timeout_s + SDK_GRACE_S


@pytest.mark.parametrize(
    ("timing", "change", "words"),
    [
        (DEFAULT_TIMING, {"stopped_limit_s": 0.4}, "give a sign every 0.1 s"),
        (DEFAULT_TIMING, {"blocked_report_s": 0.4}, "give a sign every 0.1 s"),
        (DEFAULT_TIMING, {"blocked_limit_s": 11.0}, "do not grow"),
        (DEFAULT_TIMING, {"blocked_report_s": 6.0}, "do not grow"),
        (DEFAULT_TIMING, {"starved_limit_s": 60.0}, "cancelled whatever it does"),
        (DEFAULT_TIMING, {"stopped_limit_s": 60.0}, "OUTLAST_UNRESPONSIVE_S"),
        (SEVERAL_HOSTS, {"starved_limit_s": 6.5}, "cancelled whatever it does"),
        (SEVERAL_HOSTS, {"heartbeat_timeout_s": 1.1}, "before its parent sends"),
        (SEVERAL_HOSTS, {"tick_s": 0.15}, "before its parent sends"),
    ],
)
def test_a_contradiction_is_refused(
    timing: Timing, change: dict[str, float], words: str
) -> None:
    """
    However generous the target is, in one sentence that says what to change.
    """
    with pytest.raises(BadInputError) as refusal:
        validate_timing(timing.model_copy(update=change), 3600)
    assert words in told_in_one_sentence(refusal.value)


short, long = st.floats(0.1, 20), st.floats(0.1, 60)
timings = st.builds(
    Timing,
    heartbeat_timeout_s=long,
    heartbeat_s=st.floats(0.01, 60),
    sticky_s=long,
    blocked_report_s=short,
    stopped_limit_s=short,
    blocked_limit_s=short,
    starved_limit_s=short,
)


@given(timings, long)
def test_what_passes_the_check_keeps_every_rule(timing: Timing, target: float) -> None:
    """
    Whatever is not refused meets its target, survives a lost beat, and takes no live
    process for a lost host.
    """
    try:
        validate_timing(timing, target)
    except BadInputError:
        return
    assert timing.heartbeat_s * 2 <= timing.heartbeat_timeout_s
    assert all(
        each.worst_s <= target for each in predict_recovery(timing) if not each.patient
    )
    limits = timing.stopped_limit_s, timing.blocked_limit_s, timing.starved_limit_s
    grace_s = SDK_GRACE_S if timing.parent_heartbeats else 0.0
    assert max(limits) < timing.heartbeat_timeout_s + grace_s
