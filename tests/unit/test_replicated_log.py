"""
The merge of event logs: whatever comes, in whatever order, the end is the same.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from outlast.contracts.attempts import Checkpoint
from outlast.contracts.reports import MissionStatus
from outlast.mesh.core.events import (
    AnyFact,
    CheckpointSaved,
    MeshEvent,
    PeerForgotten,
    PeerJoined,
    SubtaskFinished,
    TaskAdopted,
    TaskFinished,
    TaskSubmitted,
    event,
)
from outlast.mesh.core.ownership import result_order
from outlast.mesh.core.projection import MeshState
from outlast.mesh.core.replicated_log import (
    EventSpan,
    ReplicatedLog,
    covers,
    intersect,
    merge_vectors,
)

ORIGINS = ("a~log~1", "b~log~1", "b~log~2", "c~log~1")
TASKS = ("one", "two")
PEERS = ("a", "b", "c")

names = st.sampled_from(TASKS)
peers = st.sampled_from(PEERS)
epochs = st.integers(1, 3)
submitted = st.builds(
    TaskSubmitted,
    task=names,
    mission=st.just({}),
    digest=st.sampled_from("xy"),
    roles=st.just([]),
    copies=st.just(2),
)
adopted = st.builds(TaskAdopted, task=names, epoch=epochs, owner=peers)
saved = st.builds(
    CheckpointSaved,
    task=names,
    epoch=epochs,
    subtask=st.just("only"),
    round=st.integers(1, 2),
    checkpoint=st.builds(Checkpoint, seq=st.integers(0, 3), value=st.integers(0, 3)),
)
made = st.builds(
    SubtaskFinished,
    task=names,
    epoch=epochs,
    subtask=st.just("only"),
    answer=st.sampled_from("pq"),
)
finished = st.builds(
    TaskFinished,
    task=names,
    epoch=epochs,
    owner=peers,
    status=st.sampled_from(
        [MissionStatus.COMPLETED, MissionStatus.DEGRADED, MissionStatus.FAILED]
    ),
    report=st.just({}),
    digest=st.sampled_from("xyz"),
    partition_members=st.lists(peers, min_size=1, max_size=3),
)
joined = st.builds(PeerJoined, peer=peers, join_count=st.integers(1, 3))
forgotten = st.builds(PeerForgotten, peer=peers, join_count=st.integers(1, 3))
facts = st.one_of(submitted, adopted, saved, made, finished, joined, forgotten)
written = st.lists(st.tuples(st.sampled_from(ORIGINS), facts), max_size=30)
draws = st.integers(0, 2**32).map(random.Random)


def numbered(lines: list[tuple[str, AnyFact]], draw: random.Random) -> list[MeshEvent]:
    """
    Give each origin's facts their numbers.
    """
    heads = dict.fromkeys(ORIGINS, 0)
    events = []
    for origin, fact in lines:
        heads[origin] += 1
        at_s = float(draw.randint(0, 5))
        events.append(event(origin, heads[origin], at_s, fact))
    return events


def part(events: list[MeshEvent], draw: random.Random) -> ReplicatedLog:
    """
    What one peer has of *events*: of each origin the first so many.
    """
    kept = {origin: draw.randint(0, 30) for origin in ORIGINS}
    return ReplicatedLog([each for each in events if each.seq <= kept[each.origin]])


def copy(log: ReplicatedLog) -> ReplicatedLog:
    return ReplicatedLog(list(log), log.high_water, log.low_water)


def union(one: ReplicatedLog, other: ReplicatedLog) -> ReplicatedLog:
    both = copy(one)
    both.merge(other.missing({}, 10**9)[0])
    return both


def contents(log: ReplicatedLog) -> tuple[object, ...]:
    return sorted(log, key=lambda each: each.key), log.high_water, log.low_water


@given(written, draws)
def test_the_order_of_two_does_not_matter(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    Commutative: mine with yours is yours with mine.
    """
    events = numbered(lines, draw)
    one, other = part(events, draw), part(events, draw)
    assert contents(union(one, other)) == contents(union(other, one))


@given(written, draws)
def test_the_order_of_three_does_not_matter(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    Associative: whoever met first.
    """
    events = numbered(lines, draw)
    one, two, three = (part(events, draw) for _ in range(3))
    left = union(union(one, two), three)
    assert contents(left) == contents(union(one, union(two, three)))


@given(written, draws)
def test_what_is_known_changes_nothing(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    Idempotent: the same again is ignored, and nothing is written for it.
    """
    log = part(numbered(lines, draw), draw)
    before = contents(log)
    assert not log.merge(log.missing({}, 10**9)[0])
    assert contents(log) == before


@given(written, draws, st.floats(0, 0.6))
def test_logs_are_equal_after_any_losses_doubles_and_orders(
    lines: list[tuple[str, AnyFact]], draw: random.Random, loss: float
) -> None:
    """
    Chunks of any size, lost, doubled and shuffled: heads never claim what is not
    there, and when chunks come through again the logs are one.
    """
    events = numbered(lines, draw)
    logs = [part(events, draw) for _ in range(3)]
    everything = contents(union(union(*logs[:2]), logs[2]))
    on_the_way: list[tuple[ReplicatedLog, list[EventSpan]]] = []
    for _ in range(20):
        one, other = draw.sample(logs, 2)
        spans, _ = one.missing(other.high_water, draw.randint(1, 2000))
        on_the_way += [(other, spans)] * (1 if draw.random() < 0.7 else 2)
        draw.shuffle(on_the_way)
        to, spans = on_the_way.pop()
        if draw.random() >= loss:
            to.merge(spans)
        for log in logs:
            held = {(each.origin, each.seq) for each in log}
            claimed = {
                (origin, seq)
                for origin, head in log.high_water.items()
                for seq in range(1, head + 1)
            }
            assert held == claimed
    for _ in range(2):
        for log in logs:
            for other in logs:
                log.merge(other.missing(log.high_water, 10**9)[0])
    assert all(contents(log) == everything for log in logs)


@given(written, draws)
def test_chunks_add_up_to_what_is_missing(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    However small they are, and the last one says that it is the last.
    """
    events = numbered(lines, draw)
    log, other = part(events, draw), part(events, draw)
    for _ in range(len(events) + 1):
        spans, more = log.missing(other.high_water, draw.randint(1, 1500))
        assert sum(len(span.events) for span in spans) <= max(1, 1500 // 200)
        other.merge(spans)
        if not more:
            break
    assert covers(other.high_water, log.high_water)


@given(written, draws)
def test_the_view_does_not_depend_on_order(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    Peers with the same events see the same, in whatever order and how often they came.
    """
    events = numbered(lines, draw)
    shuffled = [*events, *draw.sample(events, len(events) // 2)]
    draw.shuffle(shuffled)
    one, other = MeshState(events), MeshState(shuffled)
    assert one.tasks == other.tasks
    assert one.open == other.open
    assert one.peers == other.peers
    for task in one.tasks:
        assert one.of(task).result == other.of(task).result
        assert one.of(task).adopted == other.of(task).adopted


@given(st.lists(submitted, min_size=1, max_size=6), draws)
def test_one_of_many_submissions_of_an_id_counts(
    asked: list[TaskSubmitted], draw: random.Random
) -> None:
    """
    The earliest, in any order of arrival; the others are kept.
    """
    lines: list[tuple[str, AnyFact]] = [
        (draw.choice(ORIGINS), each.model_copy(update={"task": "one"}))
        for each in asked
    ]
    events = numbered(lines, draw)
    standing = MeshState(draw.sample(events, len(events))).of("one")
    first = min(events, key=lambda each: (each.at_s, *each.key))
    assert standing.submission == first.fact
    assert set(standing.submissions) == {each.key for each in events}


@given(st.lists(finished, min_size=1, max_size=6), draws)
def test_one_result_stands_and_the_others_are_kept(
    ends: list[TaskFinished], draw: random.Random
) -> None:
    """
    The winner is the first by rank, whatever came first; no loser is lost.
    """
    ends = [each.model_copy(update={"task": "one"}) for each in ends]
    view = MeshState(numbered([(draw.choice(ORIGINS), each) for each in ends], draw))
    standing = view.of("one")
    assert standing.result is not None
    assert result_order(standing.result) == min(map(result_order, ends))
    assert len(standing.superseded_results) == len(ends) - 1


@given(written, draws)
def test_a_rebuilt_log_drops_what_was_compacted_elsewhere(
    lines: list[tuple[str, AnyFact]], draw: random.Random
) -> None:
    """
    Who was away while others compacted has their log afterwards, and its own events
    that they never saw.
    """
    events = numbered(lines, draw)
    log = ReplicatedLog(events)
    log.drop([each.key for each in events if draw.random() < 0.4])
    away = part(events, draw)
    away.append(event("d~log~1", 1, 0.0, PeerJoined(peer="d", join_count=1)))
    away.merge(log.missing({}, 10**9)[0], rebuilding=True)
    held = {each.key for each in away}
    assert held == {each.key for each in log} | {("d~log~1", 1)}
    assert covers(away.high_water, log.high_water)
    assert covers(away.low_water, log.low_water)


@given(
    st.lists(st.dictionaries(st.sampled_from(ORIGINS), st.integers(1, 9)), min_size=1)
)
def test_what_all_have_is_covered_by_each(vectors: list[dict[str, int]]) -> None:
    """
    Meet is below all, join above.
    """
    shared, together = intersect(vectors), {}
    for each in vectors:
        together = merge_vectors(together, each)
    assert all(covers(each, shared) and covers(together, each) for each in vectors)


def test_a_span_that_does_not_hold_together_is_refused() -> None:
    """
    Events out of order, out of their span, or of somebody else.
    """
    one, two = numbered(
        [("a~log~1", PeerJoined(peer="a", join_count=1))] * 2, random.Random(1)
    )
    other = event("b~log~1", 1, 0.0, PeerJoined(peer="b", join_count=1))
    for after, up_to, events in [
        (0, 2, [two, one]),
        (0, 1, [one, two]),
        (1, 2, [one]),
        (0, 1, [other]),
        (2, 2, []),
    ]:
        with pytest.raises(ValidationError):
            EventSpan(origin="a~log~1", after=after, up_to=up_to, events=events)


def test_an_event_of_a_newer_release_is_carried_on() -> None:
    """
    Who does not understand it keeps it and passes it on.
    """
    strange = MeshEvent(
        origin="a~log~1", seq=1, at_s=0.0, body='{"kind":"task.sung","x":1}'
    )
    log = union(ReplicatedLog(), ReplicatedLog([strange]))
    assert list(log) == [strange]
    view = MeshState(log)
    assert view.unread == 1
    assert view.tasks == {}


def test_a_takeovers_cancellation_ends_no_task() -> None:
    """
    On a server that peers share, who takes a task over cancels the run before; its
    owner, which does not know yet, hears of a mission that was cancelled.
    """
    end = {
        "status": MissionStatus.CANCELLED,
        "report": {},
        "digest": "x",
        "partition_members": ["a"],
    }
    cancelled = TaskFinished(task="one", epoch=1, owner="a", **end)
    taken = [
        TaskAdopted(task="one", epoch=1, owner="a"),
        TaskAdopted(task="one", epoch=2, owner="b"),
    ]
    lines: list[tuple[str, AnyFact]] = [("a~log~1", cancelled)]
    lines += [("b~log~1", each) for each in taken]
    standing = MeshState(numbered(lines, random.Random(1))).of("one")
    assert standing.result is None
    assert (
        MeshState(numbered(lines[:2], random.Random(1))).of("one").result == cancelled
    )


def test_a_span_over_endless_numbers_costs_nothing() -> None:
    """
    What was compacted away, or never was, is not counted through.
    """
    log = ReplicatedLog()
    far = EventSpan(origin="a~log~1", after=0, up_to=2**62, events=[])
    assert log.merge([far]).low_water == {"a~log~1": 2**62}
    assert log.missing({"a~log~1": 1}, 1000)[0][0].up_to == 2**62
