"""
Plans of any shape and size: deep, wide and joined, ended and cancelled at any moment,
grown and done again. What may run is compared with what the outcomes alone say.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit_fakes import mission, outcome, ready_tasks, task

from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.plan import Plan
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.reports import TaskStatus
from outlast.contracts.tasks import Limits, Task

SIZE = 500
ENDS = [TaskStatus.DONE] * 6 + [
    TaskStatus.DEGRADED,
    TaskStatus.SKIPPED,
    TaskStatus.PARKED,
    TaskStatus.DEAD,
]


def name(number: int) -> str:
    return f"t{number}"


def chain(size: int, luck: random.Random) -> list[list[int]]:
    return [[number - 1] if number else [] for number in range(size)]


def fan(size: int, luck: random.Random) -> list[list[int]]:
    return [[0] if number else [] for number in range(size)]


def join(size: int, luck: random.Random) -> list[list[int]]:
    return [[] if number < size - 1 else [*range(number)] for number in range(size)]


def diamonds(size: int, luck: random.Random) -> list[list[int]]:
    """
    One, then nine that need it, then one that needs those nine, and so on.
    """
    joins = [number - number % 10 for number in range(size)]
    return [
        [at] if at < number else [*range(max(0, at - 9), at)]
        for number, at in enumerate(joins)
    ]


def tangle(size: int, luck: random.Random) -> list[list[int]]:
    return [
        luck.sample(range(number), min(number, luck.choice([0, 1, 1, 2, 5])))
        for number in range(size)
    ]


Shape = Callable[[int, random.Random], list[list[int]]]
SHAPES: list[Shape] = [chain, fan, join, diamonds, tangle]
LUCK = st.integers(0, 2**32).map(random.Random)
MANY = Limits(tasks=SIZE).model_copy(update={"tasks": 20_000, "depth": 20_000})


def shaped(shape: Shape, luck: random.Random, optional: float = 0.1) -> Mission:
    """
    Make a mission of SIZE tasks, in an order that has nothing to do with their needs.
    """
    tasks = [
        task(name(number), *map(name, needs), required=luck.random() >= optional)
        for number, needs in enumerate(shape(SIZE, luck))
    ]
    luck.shuffle(tasks)
    return mission(*tasks, limits=MANY)


class Watched:
    """
    A plan under way, some tasks at a time, whose promises are looked at.
    """

    def __init__(self, mission: Mission, luck: random.Random) -> None:
        self.plan = Plan(mission)
        self.luck = luck
        self.running: list[Task] = []
        self.starts = 0

    def go_on(self, steps: int = 10**9) -> None:
        """
        End *steps* tasks, in any order and way, or all there are.
        """
        while steps and not self.plan.settled:
            self.start()
            assert self.running, "nothing runs, nothing is ready, it is not settled"
            self.end(self.running.pop(self.luck.randrange(len(self.running))))
            steps -= 1

    def start(self) -> None:
        if self.starts % 25 == 0:
            self.look()
        most = self.luck.choice([1, 3, 50])
        while len(self.running) < most and (ready := self.plan.next_ready()):
            assert all(self.lets_run(need) for need in ready.needs)
            self.plan.start(ready)
            self.running.append(ready)
            self.starts += 1

    def end(self, over: Task, status: TaskStatus | None = None) -> None:
        ended = status or self.luck.choice(ENDS)
        self.plan.record(outcome(over.id, ended, over.required))

    def lets_run(self, need: str) -> bool:
        """
        Say whether a need was answered, or its lack allowed.
        """
        end = self.plan.outcomes.get(need)
        return end is not None and (
            end.has_result or not end.required or end.budget_exhausted
        )

    def look(self) -> None:
        """
        Compare what may start with what the outcomes say.
        """
        plan = self.plan
        may_run = [
            each
            for each in plan.tasks.values()
            if each.id not in plan.started and all(map(self.lets_run, each.needs))
        ]
        assert {each.id for each in ready_tasks(plan)} == {each.id for each in may_run}
        for each in plan.waiting:
            ended = [need for need in each.needs if need in plan.outcomes]
            assert all(map(self.lets_run, ended)), "it waits for what never comes"


@settings(max_examples=15)
@given(st.sampled_from(SHAPES), LUCK)
def test_nothing_runs_whose_need_is_dead(shape: Shape, luck: random.Random) -> None:
    """
    In whatever order tasks end: each has one end, and started only after its needs.
    """
    watched = Watched(shaped(shape, luck), luck)
    watched.go_on()
    watched.look()
    assert len(watched.plan.outcomes) == SIZE


@settings(max_examples=15)
@given(st.sampled_from(SHAPES), LUCK, st.integers(0, SIZE))
def test_a_plan_is_cancelled_at_any_moment(
    shape: Shape, luck: random.Random, steps: int
) -> None:
    """
    What has not started is skipped, what runs has its own end.
    """
    watched = Watched(shaped(shape, luck), luck)
    watched.go_on(steps)
    running = {each.id for each in watched.running}
    watched.plan.stop("enough")
    assert watched.plan.tasks.keys() - watched.plan.outcomes.keys() == running
    assert watched.plan.next_ready() is None
    watched.go_on()
    assert len(watched.plan.outcomes) == SIZE


@settings(max_examples=8)
@given(st.sampled_from(SHAPES), LUCK, st.booleans())
def test_a_plan_grows_by_a_thousand_tasks(
    shape: Shape, luck: random.Random, at_once: bool
) -> None:
    """
    One at a time or all at once, each behind some that are there.
    """
    watched = Watched(shaped(shape, luck, optional=0.5), luck)
    names = list(watched.plan.tasks)
    for number in range(2 if at_once else 1_000):
        watched.start()
        if not watched.running:
            break
        author = watched.running.pop(luck.randrange(len(watched.running)))
        more = [
            task(f"f{number}-{at}", *luck.sample(names, luck.choice([0, 1, 2])))
            for at in range(500 if at_once else 1)
        ]
        watched.plan.extend(more, author.id)
        names += [each.id for each in more]
        watched.end(author)
    watched.go_on()
    watched.look()
    assert len(watched.plan.outcomes) == len(names)


@settings(max_examples=15)
@given(st.sampled_from(SHAPES), LUCK, st.integers(0, SIZE))
def test_a_plan_is_done_again_at_any_moment(
    shape: Shape, luck: random.Random, steps: int
) -> None:
    """
    What comes after a task that is done again starts only when that has ended anew.
    """
    watched = Watched(shaped(shape, luck, optional=0.5), luck)
    plan = watched.plan
    for _ in range(3):
        watched.go_on(steps)
        started = sorted(plan.started)
        target = luck.choice(started) if started else name(0)
        again = plan.downstream_of([target])
        plan.hold_back([target])
        assert again.isdisjoint(each.id for each in ready_tasks(plan))
        watched.running = [each for each in watched.running if each.id not in again]
        plan.reopen([target], "poor")
        plan.release([target])
        assert not again & plan.started - plan.outcomes.keys()
        watched.look()
    watched.go_on()
    assert len(plan.outcomes) == SIZE


@settings(max_examples=15)
@given(LUCK)
def test_those_who_plan_anew_leave_nothing_waiting(luck: random.Random) -> None:
    """
    Planners ask for planners, are done again and ask for other tasks: what needs one
    that nobody asks for any more is skipped.
    """
    watched = Watched(mission(task("a"), task("b"), task("c"), limits=MANY), luck)
    plan = watched.plan
    for turn in range(60):
        watched.start()
        if watched.running:
            author = watched.running.pop(luck.randrange(len(watched.running)))
            asked = {f"p{luck.randrange(40)}" for _ in range(luck.randrange(4))}
            known = list(plan.tasks)
            more = [
                task(each, *luck.sample(known, min(len(known), luck.randrange(3))))
                for each in sorted(asked)
                if each not in plan.tasks
            ]
            with suppress(BadInputError):  # in a circle: none of them was added
                plan.extend(more, author.id)
            watched.end(author, luck.choice([TaskStatus.DONE, TaskStatus.DEAD]))
        elif turn % 3 == 0:
            target = luck.choice(sorted(plan.tasks))
            plan.reopen([target], "poor")
    watched.go_on()
    assert plan.settled


@pytest.mark.parametrize("end", [TaskStatus.DEAD, TaskStatus.PARKED])
@pytest.mark.parametrize("shape", [chain, fan])
def test_thousands_that_need_a_dead_one_end_with_it(
    shape: Shape, end: TaskStatus
) -> None:
    """
    However deep or wide: nothing recurses, and none of them is ready.
    """
    luck = random.Random(1)
    tasks = [
        task(name(number), *map(name, needs))
        for number, needs in enumerate(shape(5_000, luck))
    ]
    plan = Plan(mission(*tasks, limits=MANY))
    plan.start(tasks[0])
    plan.record(outcome(name(0), end))
    assert plan.settled
    assert ready_tasks(plan) == []
    dependent = {each.status for each in plan.outcomes.values() if each.id != name(0)}
    assert dependent == {end if end is TaskStatus.PARKED else TaskStatus.SKIPPED}


@pytest.mark.parametrize("shape", [chain, fan, diamonds, tangle])
def test_deciding_costs_as_much_for_many_as_for_few(shape: Shape) -> None:
    """
    A task of 5,000 costs about what one of 50 does; it was 75 times as much.
    """
    few = min(cost_s(shape, 50) for _ in range(20))
    many = min(cost_s(shape, 5_000) for _ in range(3))
    assert many < 4 * few


def cost_s(shape: Shape, size: int) -> float:
    """
    Measure deciding about a task, in seconds of a processor.
    """
    luck = random.Random(2)
    tasks = [
        task(name(number), *map(name, needs))
        for number, needs in enumerate(shape(size, luck))
    ]
    plan = Plan(mission(*tasks, limits=MANY))
    began = time.process_time()
    while ready := plan.next_ready():
        plan.start(ready)
        plan.record(outcome(ready.id, TaskStatus.DONE))
    assert plan.settled
    return (time.process_time() - began) / size


def test_a_task_that_waits_for_one_withdrawn_twice_over_is_skipped() -> None:
    """
    Its author was asked for by another one, which is done again and asks for neither.
    """
    plan = Plan(mission(task("a"), task("other")))
    plan.start(plan.tasks["a"])
    plan.extend([task("b")], author="a")
    plan.record(outcome("a", TaskStatus.DONE))
    plan.start(plan.tasks["b"])
    plan.extend([task("c")], author="b")
    plan.record(outcome("b", TaskStatus.DONE))
    plan.start(plan.tasks["other"])
    plan.extend([task("d", "c")], author="other")
    plan.record(outcome("other", TaskStatus.DONE))
    plan.reopen(["a"], "poor")
    plan.start(plan.tasks["a"])
    plan.record(outcome("a", TaskStatus.DONE))
    assert plan.outcomes["d"].reasons == ["needs c, now no task"]
    assert plan.settled


def test_a_redriven_task_does_not_wait_for_one_that_nobody_asks_for() -> None:
    """
    Its author has ended its new round without asking for it: it is skipped at once.
    """
    plan = Plan(mission(task("a"), task("other")))
    for author, asked in [("a", task("b")), ("other", task("c", "b"))]:
        plan.start(plan.tasks[author])
        plan.extend([asked], author=author)
        plan.record(outcome(author, TaskStatus.DONE))
    plan.reopen(["a"], "poor")
    plan.start(plan.tasks["a"])
    plan.record(outcome("a", TaskStatus.DONE))
    plan.reopen(["c"], "redriven")
    assert plan.outcomes["c"].reasons == ["needs b, now no task"]
    assert plan.settled


@settings(max_examples=15)
@given(st.sampled_from(SHAPES), LUCK, st.integers(SIZE // 10, SIZE))
def test_a_plan_is_carried_from_run_to_run(
    shape: Shape, luck: random.Random, steps: int
) -> None:
    """
    As often as it takes: the next run knows what has ended, how often what was done
    again and who had asked for what, and starts again what was under way.
    """
    asked = shaped(shape, luck, optional=0.5)
    watched, added = Watched(asked, luck), 0
    while not watched.plan.settled:
        watched.go_on(steps)
        before = watched.plan
        if watched.running and added < 50:
            author = watched.running.pop()
            before.extend([task(f"f{added}", author.id)], author.id)
            watched.end(author, TaskStatus.DONE)
            added += 1
            if luck.random() < 0.5:
                again = before.downstream_of([author.id])
                watched.running = [
                    each for each in watched.running if each.id not in again
                ]
                before.reopen([author.id], "poor")
        past = PriorRun.model_validate_json(before.to_prior_run().model_dump_json())
        watched.plan = Plan(asked)
        watched.plan.restore(past)
        assert watched.plan.outcomes == before.outcomes
        assert watched.plan.tasks.keys() == before.tasks.keys()
        assert all(
            watched.plan.round(each) == before.round(each) for each in before.tasks
        )
        for each in watched.running:
            assert watched.plan.downstream_of([each.id]) == before.downstream_of(
                [each.id]
            )
            watched.plan.start(each)
        watched.look()
    watched.look()
