"""
A mission's tasks as a graph: it always comes to an end, and refuses contradictions.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_fakes import ROLE, mission, outcome, ready_tasks, task, told_in_one_sentence

from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import RoleSpec
from outlast.contracts.plan import Plan
from outlast.contracts.prior_run import PriorRun
from outlast.contracts.reports import MissionStatus, Outcome, TaskStatus, mission_status
from outlast.contracts.sizes import PLAN_BYTES
from outlast.contracts.tasks import Limits, Task
from outlast.contracts.updates import Redrive

ENDS = [
    TaskStatus.DONE,
    TaskStatus.DEGRADED,
    TaskStatus.SKIPPED,
    TaskStatus.PARKED,
    TaskStatus.DEAD,
]


class StrictPlan(Plan):
    """
    A plan that notices when a task is given two ends.
    """

    def _settle(self, outcome: Outcome) -> None:
        assert outcome.id in self.tasks
        before = self.outcomes.get(outcome.id, outcome)
        assert outcome == before, "a settled task was given another end"
        super()._settle(outcome)


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    """
    Draw tasks without a cycle, in any order.
    """
    size = draw(st.integers(1, 12))
    tasks = []
    for number in range(size):
        earlier = [f"t{each}" for each in range(number)]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        tasks.append(task(f"t{number}", *needs, required=draw(st.booleans())))
    return draw(st.permutations(tasks))


def run(plan: Plan, luck: random.Random, stop_after: int | None = None) -> None:
    """
    Carry out *plan* with a few tasks at a time, which end in any order and way.
    """
    running: list[Task] = []
    ended = 0
    while not plan.settled:
        for each in ready_tasks(plan)[: 3 - len(running)]:
            assert_may_run(plan, each)
            plan.start(each)
            running.append(each)
        assert running, "nothing runs, nothing is ready, and it is not settled"
        over = running.pop(luck.randrange(len(running)))
        plan.record(outcome(over.id, luck.choice(ENDS), over.required))
        ended += 1
        if ended == stop_after:
            plan.stop("enough")


def assert_may_run(plan: Plan, ready: Task) -> None:
    for need in ready.needs:
        end = plan.outcomes[need]
        assert end.has_result or not end.required


@given(graphs(), st.randoms(use_true_random=False))
def test_a_plan_always_settles(tasks: list[Task], luck: random.Random) -> None:
    """
    However its tasks end, each has exactly one outcome in the end.
    """
    plan = Plan(mission(*tasks))
    run(plan, luck)
    assert set(plan.outcomes) == {each.id for each in tasks}
    assert plan.waiting == ready_tasks(plan) == []


@given(graphs(), st.randoms(use_true_random=False))
def test_a_settled_task_is_not_given_another_end(
    tasks: list[Task], luck: random.Random
) -> None:
    """
    What a task's end was, and why, is said once and stands.
    """
    run(StrictPlan(mission(*tasks)), luck)


@given(graphs(), st.randoms(use_true_random=False), st.integers(1, 12))
def test_a_stopped_plan_settles(
    tasks: list[Task], luck: random.Random, stop_after: int
) -> None:
    """
    What has not started when it stops is skipped, what runs still has its own end.
    """
    plan = Plan(mission(*tasks))
    run(plan, luck, stop_after)
    assert set(plan.outcomes) == {each.id for each in tasks}


@given(graphs(), graphs(), st.randoms(use_true_random=False))
def test_a_plan_with_follow_ups_settles(
    tasks: list[Task], later: list[Task], luck: random.Random
) -> None:
    """
    Tasks that are added under way are settled like all the others.
    """
    plan = Plan(mission(*tasks))
    first = ready_tasks(plan)[0]
    plan.start(first)
    renamed = [
        Task(
            id=f"f{each.id}",
            role=ROLE,
            needs=[first.id, *(f"f{need}" for need in each.needs)],
        )
        for each in later
    ]
    plan.extend(renamed)
    plan.record(outcome(first.id, luck.choice(ENDS), first.required))
    run(plan, luck)
    assert len(plan.outcomes) == len(tasks) + len(later)


def test_a_task_waits_for_all_its_needs() -> None:
    """
    What needs two tasks is ready after the second one.
    """
    plan = Plan(mission(task("a"), task("b"), task("c", "a", "b")))
    assert [each.id for each in ready_tasks(plan)] == ["a", "b"]
    for name in ("a", "b"):
        plan.start(plan.tasks[name])
        assert (
            ready_tasks(plan) == [plan.tasks["b"]]
            if name == "a"
            else not ready_tasks(plan)
        )
        plan.record(outcome(name, TaskStatus.DONE))
    assert [each.id for each in ready_tasks(plan)] == ["c"]


@pytest.mark.parametrize(
    "end", [TaskStatus.DEAD, TaskStatus.SKIPPED, TaskStatus.PARKED]
)
def test_a_failed_optional_need_does_not_block(end: TaskStatus) -> None:
    """
    What needs an optional task runs without it.
    """
    plan = Plan(mission(task("a", required=False), task("b", "a")))
    plan.record(outcome("a", end, required=False))
    assert [each.id for each in ready_tasks(plan)] == ["b"]
    assert plan.available_needs(plan.tasks["b"]) == []


def test_only_answered_needs_are_delivered() -> None:
    """
    A task is told of the needs that have a result, in its own order.
    """
    tasks = [task(name, required=False) for name in "abc"]
    plan = Plan(mission(*tasks, task("d", "c", "b", "a")))
    plan.record(outcome("a", TaskStatus.DONE, required=False))
    plan.record(outcome("b", TaskStatus.DEAD, required=False))
    plan.record(outcome("c", TaskStatus.DEGRADED, required=False))
    assert plan.available_needs(plan.tasks["d"]) == ["c", "a"]


@pytest.mark.parametrize("end", [TaskStatus.DEAD, TaskStatus.SKIPPED])
def test_what_needs_a_dead_task_is_skipped(end: TaskStatus) -> None:
    """
    A required need without a result ends the whole chain behind it, with the cause.
    """
    plan = Plan(mission(task("a"), task("b", "a"), task("c", "b"), task("d")))
    plan.record(outcome("a", end))
    assert plan.outcomes["b"].status is TaskStatus.SKIPPED
    assert plan.outcomes["b"].reasons == [f"needs a, which is {end}"]
    assert plan.outcomes["c"].status is TaskStatus.SKIPPED
    assert [each.id for each in ready_tasks(plan)] == ["d"]


def test_what_needs_a_parked_task_is_parked() -> None:
    """
    What waits for something that may still be done is parked with it.
    """
    plan = Plan(mission(task("a"), task("b", "a"), task("c", "b")))
    plan.record(outcome("a", TaskStatus.PARKED))
    assert {end.status for end in plan.outcomes.values()} == {TaskStatus.PARKED}
    assert plan.settled


def test_a_stop_skips_what_has_not_started() -> None:
    """
    A stop settles the waiting tasks and says why; those under way are left alone.
    """
    plan = Plan(mission(task("a"), task("b"), task("c", "b")))
    plan.start(plan.tasks["a"])
    plan.stop("cancelled by Ann")
    assert set(plan.outcomes) == {"b", "c"}
    for end in plan.outcomes.values():
        assert end.status is TaskStatus.SKIPPED
    assert plan.outcomes["b"].reasons == ["cancelled by Ann"]
    assert not plan.settled


def refusal(*tasks: Task, **more) -> str:
    with pytest.raises(BadInputError) as error:
        Plan(mission(*tasks, **more))
    return told_in_one_sentence(error.value)


def test_a_circle_is_refused() -> None:
    """
    Tasks that need each other can never run; the sentence names them.
    """
    told = refusal(task("a", "c"), task("b", "a"), task("c", "b"), task("free"))
    assert told.endswith("in a circle: a, b, c")


def test_a_task_that_needs_itself_is_refused() -> None:
    """
    The smallest circle is one too.
    """
    assert "in a circle: a" in refusal(task("a", "a"))


def test_an_unknown_need_is_refused() -> None:
    """
    A need is the id of a task.
    """
    assert refusal(task("a", "ghost")) == "task 'a' needs 'ghost', which is no task"


def test_an_unknown_role_is_refused() -> None:
    """
    The sentence names the role and those that there are.
    """
    told = refusal(task("a", role="poet"), crew={ROLE: RoleSpec(routes=[ROLE])})
    assert told == (
        "task 'a': no agent plays 'poet'; the crew has: worker; "
        "set OUTLAST_AGENTS to the module that has it"
    )


def test_two_tasks_of_one_name_are_refused() -> None:
    """
    A task's id is its key in the ledger.
    """
    assert refusal(task("a"), task("a")) == "two tasks are called 'a'"


def test_more_tasks_than_the_limit_are_refused() -> None:
    """
    The cap on tasks counts all of them.
    """
    three = [task(name) for name in "abc"]
    Plan(mission(*three, limits=Limits(tasks=3)))
    told = refusal(*three, limits=Limits(tasks=2))
    assert told == "3 tasks are over the limit of 2"


def test_a_longer_chain_than_the_limit_is_refused() -> None:
    """
    The cap on depth counts the longest chain.
    """
    chain = [task("a"), task("b", "a"), task("c", "b"), task("d", "a")]
    Plan(mission(*chain, limits=Limits(depth=3)))
    told = refusal(*chain, limits=Limits(depth=2))
    assert told == "a chain of 3 tasks is over the limit of 2"


@pytest.mark.parametrize("letter", ["x", "€"], ids=["ascii", "three bytes each"])
def test_more_than_a_plan_may_hold_is_refused(letter: str) -> None:
    """
    Added up, in bytes and not characters; large inputs are in the store by then.
    """
    text = letter * (PLAN_BYTES // 4 // len(letter.encode()))
    given = [Task(id=f"t{at}", role=ROLE, input={"text": text}) for at in range(4)]
    told = refusal(*given)
    assert told.startswith("4 tasks have ")
    assert str(PLAN_BYTES) in told


def test_a_task_that_cannot_travel_is_refused() -> None:
    """
    Text that is no UTF-8, as of a file's odd name, is bad input and no traceback.
    """
    assert "a" in refusal(Task(id="a", role=ROLE, input={"path": "caf\udce9"}))


@pytest.mark.parametrize(
    "added",
    [
        [task("new"), task("a")],
        [task("new"), task("other", "ghost")],
        [task("new"), task("other", role="poet")],
        [task("new", "other"), task("other", "new")],
        [task(f"new{number}") for number in range(10)],
    ],
    ids=["duplicate", "unknown need", "unknown role", "circle", "too many"],
)
def test_follow_ups_are_added_all_or_none(added: list[Task]) -> None:
    """
    Follow-up tasks are checked as the mission was; one bad one refuses them all.
    """
    plan = Plan(mission(task("a"), limits=Limits(tasks=5)))
    with pytest.raises(BadInputError):
        plan.extend(added)
    assert list(plan.tasks) == ["a"]


def test_follow_ups_may_need_tasks_that_are_there() -> None:
    """
    New tasks join the graph, behind old ones too.
    """
    plan = Plan(mission(task("a")))
    plan.record(outcome("a", TaskStatus.DONE))
    plan.extend([task("b", "a"), task("c", "b")])
    assert [each.id for each in ready_tasks(plan)] == ["b"]


D, G, S, P, X = ENDS


@pytest.mark.parametrize(
    ("required", "optional", "status"),
    [
        ([D, D], [], MissionStatus.COMPLETED),
        ([D], [D], MissionStatus.COMPLETED),
        ([], [D], MissionStatus.COMPLETED),
        ([D, G], [], MissionStatus.DEGRADED),
        ([D], [G], MissionStatus.DEGRADED),
        ([D], [S], MissionStatus.DEGRADED),
        ([D], [P], MissionStatus.DEGRADED),
        ([D], [X], MissionStatus.DEGRADED),
        ([], [X], MissionStatus.DEGRADED),
        ([D, P], [], MissionStatus.PARKED),
        ([G, P], [X], MissionStatus.PARKED),
        ([D, X], [], MissionStatus.FAILED),
        ([D, S], [], MissionStatus.FAILED),
        ([P, X], [], MissionStatus.FAILED),
        ([P, S], [D], MissionStatus.FAILED),
    ],
)
def test_a_mission_ends_as_its_tasks_did(
    required, optional, status: MissionStatus
) -> None:
    """
    The worst required end decides; optional ones only degrade.
    """
    ends = [outcome(f"r{n}", end) for n, end in enumerate(required)]
    ends += [outcome(f"o{n}", end, required=False) for n, end in enumerate(optional)]
    assert mission_status(ends) is status
    assert mission_status(reversed(ends)) is status


@given(graphs(), st.randoms(use_true_random=False), st.integers(0, 11))
def test_a_redone_plan_settles_again(
    tasks: list[Task], luck: random.Random, which: int
) -> None:
    """
    Whatever is done again, each task has one outcome in the end, and those that do
    not come after it keep theirs.
    """
    plan = Plan(mission(*tasks))
    run(plan, luck)
    target = tasks[which % len(tasks)].id
    again, before = plan.downstream_of([target]), dict(plan.outcomes)
    plan.reopen([target], "poor")
    at_once = {plan.outcomes[name].status for name in again & set(plan.outcomes)}
    assert at_once <= {TaskStatus.SKIPPED, TaskStatus.PARKED}, (
        "for want of another need"
    )
    run(plan, luck)
    assert plan.settled
    for name in again:
        assert plan.round(name) == 2
    for name in set(before) - again:
        assert plan.outcomes[name] == before[name]
        assert plan.round(name) == 1


def test_what_is_left_out_for_want_of_budget_breaks_nothing() -> None:
    """
    What needs it may run, unless nothing at all was come to.
    """
    plan = Plan(mission(task("a"), task("b", "a")))
    forgone = outcome("a", TaskStatus.SKIPPED).model_copy(
        update={"budget_exhausted": True}
    )
    plan.start(plan.tasks["a"])
    plan.record(forgone)
    assert [each.id for each in ready_tasks(plan)] == ["b"]
    done = outcome("b", TaskStatus.DONE)
    assert mission_status([forgone, done]) is MissionStatus.DEGRADED
    assert mission_status([forgone]) is MissionStatus.FAILED


def test_a_redriven_task_whose_need_was_withdrawn_is_skipped_again() -> None:
    """
    Also in a mission that had ended meanwhile, where nobody knows who had asked for it.
    """
    asked = mission(task("author"), task("other"))
    orphan = task("orphan", "gone")
    ends = [outcome("author", TaskStatus.DONE), outcome("other", TaskStatus.DONE)]
    past = PriorRun(
        added=[orphan],
        authors={"orphan": "other"},
        outcomes=[*ends, outcome("orphan", TaskStatus.SKIPPED)],
        redrive=Redrive(tasks=["orphan"]),
    )
    plan = Plan(asked)
    plan.restore(past)
    assert plan.settled
    assert plan.outcomes["orphan"].reasons == ["needs gone, now no task"]


def test_what_needs_a_withdrawn_task_is_in_nobodys_way() -> None:
    """
    The author that is done again may ask for other tasks; what needs an old one is
    skipped.
    """
    plan = Plan(mission(task("author"), task("other")))
    for name, asked in [("author", task("old")), ("other", task("orphan", "old"))]:
        plan.start(plan.tasks[name])
        plan.extend([asked], author=name)
        plan.record(outcome(name, TaskStatus.DONE))
    plan.reopen(["author"], "poor")
    plan.start(plan.tasks["author"])
    plan.extend([task("new")], author="author")
    plan.record(outcome("author", TaskStatus.DONE))
    assert plan.outcomes["orphan"].reasons == ["needs old, now no task"]
    assert [each.id for each in ready_tasks(plan)] == ["new"]


def test_what_agents_ask_for_is_added_up() -> None:
    """
    Each time within the cap, and too much together; what is asked for again after a
    redo counts once.
    """

    def large(name: str) -> Task:
        return Task(id=name, role=ROLE, input={"text": "x" * (PLAN_BYTES * 2 // 5)})

    plan = Plan(mission(task("a"), task("b")))
    for author, asked in (("a", "one"), ("b", "two")):
        plan.start(plan.tasks[author])
        plan.extend([large(asked)], author=author)
        plan.record(outcome(author, TaskStatus.DONE))
    with pytest.raises(BadInputError, match=str(PLAN_BYTES)):
        plan.extend([large("three")])
    for _ in range(5):
        plan.reopen(["a"], "again")
        plan.start(plan.tasks["a"])
        plan.extend([large("one")], author="a")
        plan.record(outcome("a", TaskStatus.DONE))
    assert plan.tasks.keys() == {"a", "b", "one", "two"}
