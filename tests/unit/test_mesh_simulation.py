"""
The mesh over many seeds: peers that die, freeze, part and return, by a virtual clock.

A test that fails has its seed in its name, and that seed replays it. More of them:
`MESH_SEEDS=1000 pytest tests/unit/test_mesh_simulation.py`.
"""

import os

import pytest
from mesh_network import DETECT_S, Disk, Network

from outlast.contracts.mesh_timing import (
    MESH_COMPACT_S,
    MESH_FORGET_S,
    MESH_KEEP_S,
    MESH_UNRESPONSIVE_S,
)

FIVE = "abcde"
SEEDS = range(int(os.environ.get("MESH_SEEDS", "4")))

seeds = pytest.mark.parametrize("seed", SEEDS)


def tasks(count: int, prefix: str = "t") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def settled(names: str = FIVE, seed: int = 0, loss: float = 0.0) -> Network:
    """
    A mesh that has caught up with itself.
    """
    net = Network(names, seed, loss)
    net.run_until(lambda: all(core.me.ready for core in net.cores), 10)
    net.run(0.5)  # until all know that all are ready
    return net


def submit(net: Network, names: list[str]) -> None:
    up = [node.name for node in net.nodes.values() if node.up and not node.frozen]
    for name in names:
        net.submit(net.draw.choice(up), name)


def agree(net: Network, names: list[str]) -> None:
    """
    Check that everywhere the same one result stands for each task.
    """
    for name in names:
        found = net.standing(name)
        assert len(found) == 1, (name, found)
        assert "none" not in found, name


@seeds
def test_what_two_copies_acknowledge_outlives_a_peer(seed: int) -> None:
    """
    The peer that took the tasks dies right after it acknowledged them, and never
    returns: the others finish them all.
    """
    net = settled(seed=seed, loss=0.1)
    names = tasks(10)
    victim = net.draw.choice(FIVE)
    for name in names:
        net.submit(victim, name)
    net.run(net.draw.uniform(0, 3))
    kept = [name for name in names if net.acknowledged.get(name, 0) >= 2]
    net.crash(victim)
    assert net.run_until(lambda: net.all_finished(kept), 40) < 40
    net.run_until(net.equal, 5)
    agree(net, kept)


@seeds
def test_work_goes_on_elsewhere_from_its_last_checkpoint(seed: int) -> None:
    """
    A killed owner's task runs on another peer right after the death is known, and does
    not begin again.
    """
    net = settled(seed=seed)
    net.submit("a", "task")
    net.run(1.5)
    (owner,) = net.running("task")
    net.crash(owner)
    net.run_until(lambda: bool(net.running("task")), DETECT_S + 0.3)
    _, _, _, epoch, step = net.started_runs[-1]
    assert epoch == 2
    assert step >= 3
    net.run_until(lambda: net.all_finished(["task"]), 5)
    assert len(net.started_runs) == 2


@seeds
def test_both_sides_of_a_split_finish_and_agree_when_healed(seed: int) -> None:
    """
    Three and two work on with what they know; healed, all logs are equal within 5 s
    and one result stands.
    """
    net = settled(seed=seed, loss=0.05)
    before = tasks(8, "before")
    submit(net, before)
    net.run(net.draw.uniform(0, 2))
    net.split("abc", "de")
    during = tasks(8, "during")
    submit(net, during)
    net.run(15)
    assert all(any(core.state.of(name).result for core in net.cores) for name in during)
    net.heal()
    net.run_until(net.equal, 5)
    agree(net, before + during)
    net.run(10)
    assert not any(net.running(name) for name in before + during)


@seeds
def test_five_singles_heal_in_any_order(seed: int) -> None:
    """
    Each alone works on by itself; joined one after another they agree.
    """
    net = settled(seed=seed)
    net.split(*FIVE)
    names = tasks(10)
    submit(net, names)
    net.run(8)
    order = net.draw.sample(FIVE, len(FIVE))
    for count in range(2, len(FIVE) + 1):
        net.split(order[:count], *order[count:])
        net.run(net.draw.uniform(0, 3))
    net.run_until(net.equal, 5)
    net.run_until(lambda: net.all_finished(names), 20)
    net.run_until(net.equal, 5)
    agree(net, names)


@seeds
def test_a_woken_peer_does_nothing_that_it_no_longer_owns(seed: int) -> None:
    """
    Frozen past the bound, it holds what it ran until it has looked, and lets go of
    what others have taken over.
    """
    net = settled(seed=seed, loss=0.05)
    net.submit("a", "task")
    net.run_until(lambda: bool(net.running("task")), 5)
    net.run(0.5)
    (owner,) = net.running("task")
    net.freeze(owner)
    net.run(10)
    woken_s = net.now_s
    net.wake(owner)
    net.run(MESH_UNRESPONSIVE_S)
    assert "task" not in net.nodes[owner].runs
    late = [each for each in net.steps if each[0] >= woken_s and each[1] == owner]
    assert late == []
    net.run_until(net.equal, 5)
    agree(net, ["task"])
    assert net.blind == []


@seeds
def test_a_short_pause_costs_nothing(seed: int) -> None:
    """
    A peer that stands still for 0.3 s at a time keeps what it owns.
    """
    net = settled(seed=seed)
    net.submit("a", "task")
    net.run(0.5)
    (owner,) = net.running("task")
    for _ in range(3):
        net.freeze(owner)
        net.run(0.3)
        net.wake(owner)
        net.run(0.3)
        assert net.nodes[owner].ready
    net.run_until(lambda: net.all_finished(["task"]), 10)
    assert [run[1] for run in net.started_runs] == [owner]


@seeds
def test_a_peer_with_old_state_catches_up_before_it_owns(seed: int) -> None:
    """
    Its disk is that of an earlier day, and it wrote events that this disk lacks: it
    gives no number away twice, and begins nothing before it knows what they know.
    """
    net = settled(seed=seed, loss=0.05)
    submit(net, tasks(5, "first"))
    net.run(1.0)
    old = net.nodes["c"].disk.copy()
    submit(net, tasks(10, "then"))
    net.run(1.5)
    net.crash("c")
    net.run(net.draw.uniform(0, 8))
    net.latency_s = net.draw.choice([net.latency_s, (0.3, 0.9)])
    net.start("c", old)
    net.submit("c", "early")
    names = [*tasks(5, "first"), *tasks(10, "then"), "early"]
    net.run_until(lambda: net.all_finished(names), 30)
    net.run_until(net.equal, 5)
    agree(net, names)
    assert net.blind == []


@seeds
def test_all_finish_while_peers_die_and_return(seed: int) -> None:
    """
    Every 5 s one peer dies and the one before returns: all tasks finish, each with one
    standing result.
    """
    net = settled(seed=seed, loss=0.02)
    names = tasks(60)
    down: str | None = None
    for start in range(0, len(names), 10):
        submit(net, names[start : start + 10])
        net.run(1.0)
        victim = net.draw.choice([name for name in FIVE if name != down])
        net.crash(victim)
        if down is not None:
            net.start(down)
        down = victim
        net.run(4.0)
    net.start(down or "a")
    net.run_until(lambda: net.all_finished(names), 60)
    net.run_until(net.equal, 5)
    agree(net, names)
    assert net.blind == []


@seeds
def test_a_long_log_is_caught_up_with_over_a_bad_network(seed: int) -> None:
    """
    300 tasks' events came while it was away, and of three messages one is lost: what is
    lost is asked for again, and little comes twice.
    """
    net = settled(seed=seed)
    net.crash("c")
    net.run(2)
    names = tasks(300)
    submit(net, names)
    net.run_until(lambda: net.all_finished(names), 30)
    net.run(3)
    log = sum(each.size for each in net.cores[0].log)
    net.latency_s, net.loss = (0.05, 0.2), 0.3
    net.sent_bytes.clear()
    net.start("c")
    net.run_until(lambda: all(core.me.ready for core in net.cores), 9)
    net.run_until(net.equal, 15)
    assert sum(net.sent_bytes.values()) < log / 3  # packed
    assert net.blind == []


def strike(net: Network, disks: dict[str, Disk]) -> None:
    """
    Let something happen to the mesh, but never kill the last peer.
    """
    up = [node.name for node in net.nodes.values() if node.up and not node.frozen]
    down = [node.name for node in net.nodes.values() if not node.up]
    frozen = [node.name for node in net.nodes.values() if node.frozen]
    match net.draw.randrange(6):
        case 0 if len(up) > 2:
            net.crash(net.draw.choice(up))
        case 1 if down:
            name = net.draw.choice(down)
            net.start(name, disks.pop(name, None))
        case 2 if len(up) > 2:
            net.freeze(net.draw.choice(up))
        case 3 if frozen:
            net.wake(net.draw.choice(frozen))
        case 4:
            order = net.draw.sample(FIVE, len(FIVE))
            cut = net.draw.randint(1, 4)
            net.split(order[:cut], order[cut:])
        case _:
            net.heal()


@seeds
def test_whatever_happens_nothing_acknowledged_is_lost(seed: int) -> None:
    """
    Peers die, return, one of them with its disk of earlier, freeze, wake and part at
    random while tasks come in. At peace again, every task that two logs had is done,
    once everywhere, and nobody ever began a run without knowing what it could know.
    """
    net = settled(seed=seed, loss=0.05)
    net.latency_s = net.draw.choice([net.latency_s, (0.05, 0.4)])
    disks = {"c": net.nodes["c"].disk.copy()}
    names = tasks(40)
    for name in names:
        submit(net, [name])
        net.run(net.draw.uniform(0, 1.5))
        if net.draw.random() < 0.7:
            strike(net, disks)
    net.heal()
    for node in net.nodes.values():
        if node.frozen:
            net.wake(node.name)
        if not node.up:
            net.start(node.name)
    kept = [name for name in names if net.acknowledged.get(name, 0) >= 2]
    net.run_until(lambda: net.all_finished(kept), 60)
    net.run_until(net.equal, 5)
    agree(net, kept)
    net.run(5)
    assert not any(net.running(name) for name in names)
    assert net.blind == []


@seeds
def test_a_peer_away_for_a_day_is_forgotten_and_rebuilds_its_log(seed: int) -> None:
    """
    The others compact what it has not seen. It returns with the log of the day before,
    drops what they dropped, keeps what only it knew, and redoes nothing.
    """
    net = settled(seed=seed)
    names = tasks(10)
    submit(net, names)
    net.run(1)
    net.crash("c")
    old = net.nodes["c"].disk.copy()
    net.run_until(lambda: net.all_finished(names), 20)
    net.sleep(MESH_FORGET_S)
    net.run(2 * MESH_COMPACT_S + 10)
    assert all("c" not in core.state.peers for core in net.cores)
    compacted = len(net.cores[0].log)
    assert compacted < 35
    begun = len(net.started_runs)
    net.start("c", old)
    net.submit("c", "new")
    net.run_until(lambda: net.all_finished([*names, "new"]), 20)
    net.run_until(net.equal, 5)
    net.run(2 * MESH_COMPACT_S)
    agree(net, [*names, "new"])
    assert all("c" in core.state.peers for core in net.cores)
    assert [run[2] for run in net.started_runs[begun:]] == ["new"]
    assert len({len(core.log) for core in net.cores}) == 1


def test_what_is_long_done_is_gone_and_stays_gone() -> None:
    """
    A week after its end nothing is left of a task, and a peer that returns with its
    submission does not run it again.
    """
    net = settled(seed=1)
    net.submit("c", "task")
    net.run(1)
    net.crash("c")
    net.run_until(lambda: net.all_finished(["task"]), 20)
    net.sleep(MESH_FORGET_S)
    net.run(10)
    net.sleep(MESH_KEEP_S)
    net.run(2 * MESH_COMPACT_S)
    assert all(not core.state.tasks for core in net.cores)
    begun = len(net.started_runs)
    net.start("c")
    net.run(20)
    assert net.equal()
    assert all(not core.state.tasks for core in net.cores)
    assert len(net.started_runs) == begun


def test_nothing_is_compacted_while_a_peer_may_return() -> None:
    """
    It would lack what superseded the rest.
    """
    net = settled(seed=2)
    net.submit("a", "task")
    net.run(0.5)
    net.crash("e")
    net.run_until(lambda: net.all_finished(["task"]), 20)
    before = len(net.cores[0].log)
    net.run(3 * MESH_COMPACT_S)
    assert len(net.cores[0].log) >= before
    net.start("e")
    net.run(2 * MESH_COMPACT_S)
    assert len(net.cores[0].log) < before


@pytest.mark.parametrize("size", [3, 5, 10])
def test_quiet_costs_the_same_in_any_mesh(size: int) -> None:
    """
    A peer sends one small message a second, however many there are.
    """
    net = settled("abcdefghij"[:size], seed=size)
    submit(net, tasks(20))
    net.run_until(lambda: net.all_finished(tasks(20)), 20)
    net.run(5)
    net.sent.clear()
    net.sent_bytes.clear()
    net.run(60)
    assert all(0.8 * 60 <= count <= 1.05 * 60 for count in net.sent.values())
    assert all(count <= 200 * 60 for count in net.sent_bytes.values())


def test_a_seed_replays_its_run() -> None:
    """
    The same seed, the same run, to the last message.
    """

    def course() -> tuple[object, ...]:
        net = settled(seed=7, loss=0.2)
        submit(net, tasks(5))
        net.crash("b")
        net.run(10)
        return net.started_runs, net.sent, net.sent_bytes

    assert course() == course()
