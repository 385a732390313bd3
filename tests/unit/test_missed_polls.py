"""
Workers that live but poll nothing: who is mute, from reading to reading.
"""

from collections.abc import Callable

import pytest
from temporalio.api.worker.v1 import WorkerHeartbeat

from outlast.fleet.missed_polls import MAX_MISSED_READINGS, MissedPolls, is_polling

OURS = {"one", "two", "three"}
ALL_BUT_ONE = OURS - {"one"}


def readings(ear: MissedPolls, heard: set[str], count: int) -> list[set[str]]:
    """
    Read the same list *count* times; returns who was mute at each.
    """
    return [ear.update(OURS, heard) for _ in range(count)]


def test_who_is_not_heard_three_times_in_a_row_is_mute() -> None:
    """
    Not sooner: the list is some seconds old, and the newborn are not on it yet.
    """
    told = readings(MissedPolls(), ALL_BUT_ONE, MAX_MISSED_READINGS + 1)
    assert told == [*[set()] * (MAX_MISSED_READINGS - 1), {"one"}, {"one"}]


def test_each_is_counted_alone() -> None:
    """
    What is known of one says nothing about another.
    """
    ear = MissedPolls()
    ear.update(OURS, ALL_BUT_ONE)
    told = readings(ear, {"three"}, MAX_MISSED_READINGS)
    assert told[-2:] == [{"one"}, {"one", "two"}]


def test_who_is_heard_once_starts_anew() -> None:
    """
    One sign of polling is worth as much as a new birth.
    """
    ear = MissedPolls()
    readings(ear, ALL_BUT_ONE, MAX_MISSED_READINGS - 1)
    assert ear.update(OURS, OURS) == set()
    assert readings(ear, ALL_BUT_ONE, MAX_MISSED_READINGS) == [
        *[set()] * (MAX_MISSED_READINGS - 1),
        {"one"},
    ]


@pytest.mark.parametrize("heard", [set(), {"stranger"}], ids=["empty", "strangers"])
def test_when_nobody_of_ours_is_heard_nobody_is_mute(heard: set[str]) -> None:
    """
    It is the server that knows nothing: however often, no worker is killed for that.
    """
    assert readings(MissedPolls(), heard, MAX_MISSED_READINGS * 3) == [set()] * (
        MAX_MISSED_READINGS * 3
    )


def test_a_server_that_knows_nothing_takes_no_count_along() -> None:
    """
    After its return everybody is given the whole number of readings again.
    """
    ear = MissedPolls()
    readings(ear, ALL_BUT_ONE, MAX_MISSED_READINGS - 1)
    ear.update(OURS, set())
    assert readings(ear, ALL_BUT_ONE, MAX_MISSED_READINGS) == [
        *[set()] * (MAX_MISSED_READINGS - 1),
        {"one"},
    ]


def test_who_is_no_longer_ours_is_forgotten() -> None:
    """
    A pid that comes back later starts without the silence of its forerunner.
    """
    ear = MissedPolls()
    readings(ear, ALL_BUT_ONE, MAX_MISSED_READINGS)
    assert ear.update(ALL_BUT_ONE, ALL_BUT_ONE) == set()
    assert ear.update(OURS, ALL_BUT_ONE) == set()


def polls_activities(beat: WorkerHeartbeat) -> None:
    beat.activity_poller_info.current_pollers = 1


def polls_workflows(beat: WorkerHeartbeat) -> None:
    beat.workflow_poller_info.current_pollers = 2


def plays(beat: WorkerHeartbeat) -> None:
    beat.activity_task_slots_info.current_used_slots = 1


def decides(beat: WorkerHeartbeat) -> None:
    beat.workflow_task_slots_info.current_used_slots = 1


def beat(
    identity: str, sign: Callable[[WorkerHeartbeat], None] = lambda _: None
) -> WorkerHeartbeat:
    """
    Make what a worker tells the server of itself: nothing, but for *sign*.
    """
    made = WorkerHeartbeat(worker_identity=identity)
    made.activity_task_slots_info.current_available_slots = 4
    sign(made)
    return made


@pytest.mark.parametrize("sign", [polls_activities, polls_workflows, plays, decides])
def test_who_polls_or_has_a_task_is_at_work(
    sign: Callable[[WorkerHeartbeat], None],
) -> None:
    """
    Whoever has all slots full polls nothing and is as healthy as can be.
    """
    assert is_polling([beat("one", sign), beat("two")]) == {"one"}


def test_one_queue_is_enough() -> None:
    """
    A process is listed once for each role: one that polls speaks for all of them.
    """
    assert is_polling([beat("one"), beat("one", plays), beat("one")]) == {"one"}


def test_an_empty_list_is_heard_as_silence() -> None:
    """
    No worker listed, nobody at work.
    """
    assert is_polling([]) == set()
