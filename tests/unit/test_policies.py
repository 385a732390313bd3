"""
The numbers that decide about failure, and what is refused because of them.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.contracts.policies import (
    BACKOFF_CAP_S,
    BACKOFF_FACTOR,
    BACKOFF_FIRST_S,
    SHIPPED,
    UNTUNED,
    Timing,
    backoff_s,
    check,
    recovery,
)

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
        sticky_s=20.0,
        workflow_task_s=30.0,
        timer_slack_s=0.5,
        dispatch_s=0.25,
    )
    worst = {each.fault: each.worst_s for each in recovery(timing)}
    assert worst == {
        "agent process or host lost, unreported": 10.75,
        "agent process frozen": 10.75,
        "workflow process lost, unreported, idle": 20.75,
        "workflow process lost, task in hand": 30.75,
        "agent raised, first retry": BACKOFF_FIRST_S + 0.75,
    }


@pytest.mark.parametrize("fault", recovery(SHIPPED), ids=lambda each: each.fault)
def test_each_recovery_names_the_setting_that_it_hangs_on(fault) -> None:
    """
    Raising the named setting by a second raises that recovery by a second.
    """
    if fault.by == "BACKOFF_FIRST_S":
        assert fault.worst_s > BACKOFF_FIRST_S
        return
    slower = SHIPPED.model_copy(update={fault.by: getattr(SHIPPED, fault.by) + 1})
    after = {each.fault: each.worst_s for each in recovery(slower)}
    assert after[fault.fault] == pytest.approx(fault.worst_s + 1)


def test_the_shipped_configuration_keeps_its_promise() -> None:
    """
    What we ship recovers within 2.5 s from every fault.
    """
    check(SHIPPED, TARGET_S)


def test_a_server_that_is_not_tuned_cannot_keep_it() -> None:
    """
    A second of timer slack is a second of every recovery.
    """
    with pytest.raises(BadInputError):
        check(UNTUNED, TARGET_S)


@pytest.mark.parametrize(
    ("slow", "fault"),
    [
        ({"heartbeat_timeout_s": 3.0}, "agent process or host lost, unreported"),
        ({"sticky_s": 10.0}, "workflow process lost, unreported, idle"),
        ({"workflow_task_s": 10.0}, "workflow process lost, task in hand"),
    ],
)
def test_a_target_that_cannot_be_met_is_refused(slow, fault: str) -> None:
    """
    The sentence names the worst fault, its seconds, the target and what to lower.
    """
    timing = SHIPPED.model_copy(update=slow)
    with pytest.raises(BadInputError) as refusal:
        check(timing, TARGET_S)
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
        check(SHIPPED.model_copy(update={"beat_s": beat_s}), 3600)
    told = told_in_one_sentence(refusal.value)
    assert f"{beat_s:g} s" in told
    assert "1.5 s" in told


@given(st.floats(0.1, 60), st.floats(0.01, 60), st.floats(0.1, 60), st.floats(0.1, 60))
def test_what_passes_the_check_recovers_in_time(
    timeout: float, beat: float, sticky: float, target: float
) -> None:
    """
    Whatever is not refused meets its target in each fault and survives a lost beat.
    """
    timing = Timing(heartbeat_timeout_s=timeout, beat_s=beat, sticky_s=sticky)
    try:
        check(timing, target)
    except BadInputError:
        assert (
            beat * 2 > timeout
            or max(each.worst_s for each in recovery(timing)) > target
        )
    else:
        assert beat * 2 <= timeout
        assert all(each.worst_s <= target for each in recovery(timing))
