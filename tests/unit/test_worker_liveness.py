"""
Which roles are played, as signs of life tell it.
"""

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from unit_fakes import Clock

from outlast.contracts.ids import MISSIONS_QUEUE, task_queue
from outlast.contracts.timing import (
    ROLE_UNSERVED_S,
    STARTUP_GRACE_S,
    WORKER_HEARTBEAT_S,
    WORKER_LOST_S,
)
from outlast.fleet.worker_liveness import PROCESS_ALIVE_S, WorkerLiveness, shard

RUNNING = WorkerStatus.WORKER_STATUS_RUNNING
GOING = WorkerStatus.WORKER_STATUS_SHUTTING_DOWN
STEP_S = 0.2


def sign(role: str, at: float, born: float = 0.0, status: int = RUNNING, by: str = ""):
    made = WorkerHeartbeat(
        worker_instance_key=by or role, task_queue=task_queue(role), status=status
    )
    made.heartbeat_time.FromNanoseconds(
        int((at // WORKER_HEARTBEAT_S) * WORKER_HEARTBEAT_S * 1e9)
    )
    made.start_time.FromNanoseconds(int(born * 1e9))
    return made


class Sky:
    """
    A horizon looked at again and again while roles come and go.
    """

    def __init__(self, born: float = 0.0, skew_s: float = 0.0) -> None:
        self.clock = Clock()
        self.horizon = WorkerLiveness(self.clock)
        self.born, self.skew_s = born, skew_s
        self.last: dict[str, float] = {}  # signs of those that are silent

    def watch(self, seconds: float, *roles: str, silent: tuple[str, ...] = ()) -> None:
        """
        Look for *seconds*: *roles* give signs, *silent* ones are listed all the same.
        """
        for role in silent:
            self.last.setdefault(role, self.clock.now + self.skew_s)
        for _ in range(int(seconds / STEP_S) + 1):
            now = self.clock.now + self.skew_s
            signs = [sign(role, now, self.born) for role in roles]
            signs += [sign(role, self.last[role]) for role in silent]
            self.horizon.update(signs)
            self.clock.turn(STEP_S)


@pytest.mark.parametrize("skew_s", [0.0, -500.0, 500.0])
def test_a_role_that_gives_signs_is_played(skew_s: float) -> None:
    """
    For as long as its signs are new ones, whatever its host's clock says.
    """
    sky = Sky(skew_s=skew_s)
    sky.watch(20, "writer", "editor")
    assert not sky.horizon.is_unserved("writer")
    assert sky.horizon.served_roles == ["editor", "writer"]


def test_a_role_without_a_worker_is_gone_after_a_moment() -> None:
    """
    Not at once: its one process may be in the middle of being replaced.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    sky.watch(ROLE_UNSERVED_S - 2 * STEP_S, "editor")
    assert not sky.horizon.is_unserved("writer")
    sky.watch(3 * STEP_S, "editor")
    assert sky.horizon.is_unserved("writer")
    assert sky.horizon.served_roles == ["editor"]


def test_a_worker_that_is_listed_but_silent_is_lost() -> None:
    """
    A lost host says no farewell: its workers stay in the list.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    sky.watch(WORKER_LOST_S - WORKER_HEARTBEAT_S, "editor", silent=("writer",))
    assert not sky.horizon.is_unserved("writer")
    sky.watch(WORKER_HEARTBEAT_S + 2 * STEP_S, "editor", silent=("writer",))
    assert sky.horizon.is_unserved("writer")


@pytest.mark.parametrize("since_s", [1.2, 2.8, 3.4, 10.0])
def test_a_lost_host_does_not_hurry_those_who_played_since(since_s: float) -> None:
    """
    Its workers are listed for minutes, in which others sign off while whoever takes
    over has not given a first sign yet.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    lost = sign("writer", sky.clock.now, by="lost")
    for _ in range(int(since_s / STEP_S)):
        signs = [sign(role, sky.clock.now) for role in ("writer", "editor")]
        sky.horizon.update([*signs, lost])
        sky.clock.turn(STEP_S)
    for _ in range(int(ROLE_UNSERVED_S / STEP_S)):
        sky.horizon.update([sign("editor", sky.clock.now), lost])
        assert not sky.horizon.is_unserved("writer")
        sky.clock.turn(STEP_S)
    for _ in range(int(WORKER_LOST_S / STEP_S)):
        sky.horizon.update([sign("editor", sky.clock.now), lost])
        sky.clock.turn(STEP_S)
    assert sky.horizon.is_unserved("writer")


def test_nothing_is_known_of_a_time_in_which_nobody_looked() -> None:
    """
    The server was away, and lists those first whose signs came first.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    sky.clock.turn(5.0)
    assert not sky.horizon.is_unserved("writer")
    sky.watch(STARTUP_GRACE_S - 1, "editor")
    assert not sky.horizon.is_unserved("writer")
    sky.watch(1, "editor", "writer")
    assert not sky.horizon.is_unserved("writer")


def test_a_server_that_lists_others_only_is_a_new_one() -> None:
    """
    It was away for too short a time to be noticed, and its list is in memory.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    sky.watch(ROLE_UNSERVED_S + STEP_S, "reader")
    assert not sky.horizon.is_unserved("writer")


def test_who_can_look_but_rarely_sees_a_lost_role_later() -> None:
    sky = Sky()
    sky.watch(10, "writer", "editor")
    for _ in range(2):
        assert not sky.horizon.is_unserved("writer")
        sky.clock.turn(2.0)
        sky.horizon.update([sign("editor", sky.clock.now)])
    assert sky.horizon.is_unserved("writer")


def test_who_may_be_there_is_in_doubt() -> None:
    """
    Until it is heard again, or has been away for long enough.
    """
    sky = Sky()
    sky.watch(10, "writer", "editor")
    assert sky.horizon.unknown_roles == []
    sky.watch(ROLE_UNSERVED_S - STEP_S, "editor")
    assert sky.horizon.unknown_roles == ["writer"]
    sky.watch(2 * STEP_S, "editor")
    assert sky.horizon.unknown_roles == []


def test_what_was_seen_is_soon_of_no_use() -> None:
    sky = Sky()
    sky.watch(10, "editor")
    assert sky.horizon.is_unserved("writer")
    sky.clock.turn(2.0)
    assert not sky.horizon.is_unserved("writer")


def test_one_who_has_just_begun_to_look_waits_for_those_who_start() -> None:
    """
    A host may have been lost and started anew, and its old workers be listed still.
    """
    sky = Sky()
    sky.watch(WORKER_LOST_S - STEP_S, "editor", silent=("reader",))
    assert not sky.horizon.is_unserved("writer")
    assert sky.horizon.served_roles == ["editor"]


def test_no_task_is_sent_on_to_those_who_leave_too() -> None:
    """
    A process leaves its queues one after the other: who is not gone is not yet live.
    """
    sky = Sky()
    sky.watch(10, "reader", "writer", "editor")
    sky.watch(2 * STEP_S, "reader", "editor")
    sky.watch(ROLE_UNSERVED_S - STEP_S, "reader")
    assert sky.horizon.is_unserved("writer")
    assert not sky.horizon.is_unserved("editor")
    assert sky.horizon.served_roles == ["reader"]


def test_no_task_is_sent_on_to_those_who_were_never_heard() -> None:
    """
    To one who has just begun to look a lost host's workers are on the list, no more.
    """
    sky = Sky()
    sky.watch(WORKER_HEARTBEAT_S + STEP_S, "editor", silent=("reader",))
    assert sky.horizon.served_roles == ["editor"]


def test_no_task_is_sent_on_to_those_of_whom_nothing_is_heard() -> None:
    """
    Two hosts may be lost together, and the one not be taken for lost yet.
    """
    sky = Sky()
    sky.watch(10, "reader", "editor")
    sky.watch(PROCESS_ALIVE_S + STEP_S, "reader", silent=("editor",))
    assert not sky.horizon.is_unserved("editor")
    assert sky.horizon.served_roles == ["reader"]


def test_a_role_that_comes_back_is_played_at_once() -> None:
    """
    The first sign is enough.
    """
    sky = Sky()
    sky.watch(10, "editor")
    assert sky.horizon.is_unserved("writer")
    sky.watch(0, "editor", "writer")
    assert not sky.horizon.is_unserved("writer")


def test_a_worker_that_shuts_down_counts_no_more() -> None:
    """
    It takes no further task.
    """
    sky = Sky()
    sky.watch(10, "editor", "writer")
    for _ in range(20):
        leaving = sign("writer", sky.clock.now, status=GOING)
        sky.horizon.update([sign("editor", sky.clock.now), leaving])
        sky.clock.turn(STEP_S)
    assert sky.horizon.is_unserved("writer")


def test_nothing_is_judged_while_everything_starts() -> None:
    """
    Where nobody is older than a fleet takes to start, a missing role may be coming.
    """
    sky = Sky(born=1_000.0)
    sky.watch(STARTUP_GRACE_S - 1, "editor")
    assert not sky.horizon.is_unserved("writer")
    sky.watch(3, "editor")
    assert sky.horizon.is_unserved("writer")


def test_nothing_is_judged_where_nobody_is() -> None:
    """
    A fleet that is away as a whole is waited for.
    """
    sky = Sky()
    sky.watch(10, "writer")
    sky.watch(60)
    assert not sky.horizon.is_unserved("writer")


def test_lookouts_share_the_missions() -> None:
    """
    Each mission has one lookout, and all of them one that is not listed yet.
    """
    missions = [f"m{at}" for at in range(7)]
    shares = [shard(missions, mine, ["b", "a", "c"]) for mine in "abc"]
    assert sorted(each for one in shares for each in one) == missions
    assert shard(missions, "new", ["a", "b"]) == missions


def test_a_lost_lookout_has_no_share() -> None:
    """
    Its missions are looked at by the others as soon as it is silent.
    """
    clock = Clock()
    horizon = WorkerLiveness(clock)
    made = [sign(name, 1_000.0) for name in ("a", "b")]
    for each in made:
        each.task_queue, each.worker_identity = MISSIONS_QUEUE, each.worker_instance_key
    for _ in range(int(WORKER_LOST_S / STEP_S) + 2):
        horizon.update(made)
        clock.turn(STEP_S)
        made[0].heartbeat_time.FromNanoseconds(int(clock.now * 1e9))
    assert horizon.monitors == ["a"]
