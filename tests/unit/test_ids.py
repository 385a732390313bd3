"""
Ids: each is read back as what it was composed of, and none is another's or a name.
"""

import ast
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from unit_fakes import mission

import outlast
from outlast.contracts.batches import Batch
from outlast.contracts.child_missions import MISSION_ROLE, child_mission
from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import (
    ID_CHARS,
    MISSION_ID_CHARS,
    NAME_CHARS,
    AttemptId,
    BatchId,
    BatchScopePath,
    ChildMissionId,
    EffectId,
    FanOutId,
    ItemId,
    LeaseActivityId,
    LeaseId,
    MeshRunId,
    MissionId,
    MissionName,
    Name,
    Origin,
    OriginId,
    QueueId,
    ScopePath,
    TaskRoundId,
    WorkerIdentity,
    WorkId,
    mesh_run_of,
    parse,
)
from outlast.contracts.missions import Mission
from outlast.contracts.scopes import Scope
from outlast.contracts.tasks import Limits, Task

# Few and short, and like the grammar's own words and numbers: so that parts of one id
# can be mistaken for those of another.
WORDS = ("a", "b", "1", "2", "1.2", "a-b", "lease", "item", "outlast", "task", "run")
WORDS += (
    "child",
    "fanout",
    "round",
    "attempt",
    "key",
    "again",
    "batch",
    "tenant",
    "log",
)
names = st.sampled_from(WORDS)
mission_names = names | st.sampled_from(("a:1", "a-2026-11-30T03:00:00Z"))
counts = st.integers(1, 3) | st.integers(1, 10**9)
runs = st.builds(MeshRunId, mission_names, counts)
roots = mission_names | runs.map(str)
missions = st.recursive(
    roots,
    lambda of: st.builds(ChildMissionId, of, names, counts).map(str),
    max_leaves=4,
)
children = st.builds(ChildMissionId, missions, names, counts)
fan_outs = st.builds(FanOutId, missions, names, counts)
works = missions | fan_outs.map(str)
leases = st.builds(LeaseId, counts, st.sampled_from(("lease", "quarantine")))
items = st.builds(ItemId, counts)
batch_scopes = st.builds(BatchScopePath, mission_names)
paths = st.recursive(
    mission_names, lambda of: st.builds(ScopePath, of, names).map(str), max_leaves=4
)
scopes = st.builds(ScopePath, paths, names)
keys = st.text(max_size=6) | st.sampled_from(("key~a", "~again~2~a", "a~key~a"))
effects = st.builds(
    EffectId, names, keys, st.just("") | paths | batch_scopes.map(str), counts
)
composed = st.one_of(
    children,
    fan_outs,
    runs,
    st.builds(TaskRoundId, works, names | leases.map(str) | items.map(str), counts),
    st.builds(AttemptId, names, names, counts),
    scopes,
    batch_scopes,
    effects,
    leases,
    items,
    st.builds(QueueId, st.sampled_from(("role", "leases", "quarantine")), names),
    st.builds(LeaseActivityId, names),
    st.builds(OriginId, names, counts),
    st.builds(WorkerIdentity, counts, names, names),
)
KINDS: list[type[Any]] = [
    *(ChildMissionId, FanOutId, MeshRunId, TaskRoundId, AttemptId, ScopePath),
    *(BatchScopePath, EffectId, LeaseId, ItemId, QueueId, LeaseActivityId, OriginId),
    WorkerIdentity,
]


def fits(form: Any, text: str) -> bool:
    try:
        TypeAdapter(form).validate_python(text)
    except ValidationError:
        return False
    return True


@given(composed)
def test_an_id_is_read_back_as_what_it_was_composed_of(made: Any) -> None:
    """
    And as no other kind: so two that differ have different ids, whatever they are of.
    """
    found = [kind for kind in KINDS if parse(kind, str(made)) is not None]
    assert found == [type(made)]
    assert parse(type(made), str(made)) == made


@given(composed, composed)
def test_ids_are_equal_only_where_all_they_are_made_of_is(one: Any, other: Any) -> None:
    """
    Over all kinds together.
    """
    same = type(one) is type(other) and one == other
    assert (str(one) == str(other)) == same


@given(composed)
def test_no_id_is_a_name(made: Any) -> None:
    """
    Of a user's, for a role, task, tenant, mission or batch.
    """
    assert not fits(Name, str(made))
    assert not fits(MissionName, str(made))


@given(mission_names)
def test_no_name_is_an_id(name: str) -> None:
    """
    However much it looks like one.
    """
    assert not any(parse(kind, name) for kind in KINDS)


@given(missions, fan_outs, st.builds(OriginId, names, counts))
def test_models_take_the_ids_of_their_kind(
    mission_: str, fan_out: FanOutId, origin: OriginId
) -> None:
    """
    The patterns of the models and those that ids are read by are the same.
    """
    assert fits(MissionId, mission_)
    assert fits(WorkId, mission_)
    assert fits(BatchId, str(fan_out))
    assert fits(WorkId, str(fan_out))
    assert not fits(MissionId, str(fan_out))
    assert fits(Origin, str(origin))


@pytest.mark.parametrize(
    "bad",
    [
        *("m~", "m~child", "m~child~", "m~child~t~1", "m~child~t~02", "~m", "m~~t"),
        *("m~run~0", "m~run~1~run~2", "m~child~t~run~1", "m~child~t\n", "m~other~t"),
        "m~child~ä",
    ],
)
def test_what_nobody_has_composed_is_no_id(bad: str) -> None:
    """
    There is one spelling of each id.
    """
    assert not fits(MissionId, bad)
    assert not fits(WorkId, bad)
    assert not any(parse(kind, bad) for kind in KINDS)


@given(composed.filter(lambda made: not isinstance(made, EffectId)))
def test_ids_stand_in_a_shell_and_a_url_as_they_are(made: Any) -> None:
    """
    Nothing is quoted; those that name files are no hidden ones and no folders.
    """
    text = str(made)
    assert text.startswith("~") is False
    assert re.fullmatch(r"[A-Za-z0-9._:@~-]+", text)
    assert quote(text, safe=":@") == text
    assert shlex.split(f"status {text} next") == ["status", text, "next"]


@given(missions, names)
def test_the_run_of_the_mesh_is_found_from_all_within_it(
    mission_: str, name: str
) -> None:
    """
    From missions and fan-outs; a user's mission is in none, whatever it is called.
    """
    root = mission_.split("~child~", maxsplit=1)[0]
    expected = root if parse(MeshRunId, root) else None
    assert mesh_run_of(mission_) == expected
    assert mesh_run_of(str(FanOutId(mission_, name))) == expected


def test_the_ids_that_were_one_are_three() -> None:
    """
    Task `b` of `a` and a user's `a.b`; round 2 of `t` and a mission `2` within it; the
    mesh's first run of `job` and a user's `job.1`.
    """
    made = [
        *(str(ChildMissionId("a", "b")), "a.b"),
        *(str(ChildMissionId("m", "t", 2)), str(ChildMissionId("m~child~t", "2"))),
        *(str(MeshRunId("job", 1)), "job.1"),
    ]
    assert len(set(made)) == len(made)


def nested(depth: int, name: str) -> dict[str, Any]:
    """
    The input of a task within which missions lie *depth* deep.
    """
    inner = (
        [{"id": name, "role": MISSION_ROLE, "input": nested(depth - 1, name)}]
        if depth
        else [{"id": name, "role": "worker"}]
    )
    return {"goal": "g", "tasks": inner, "limits": {"generations": 10}}


def deepest(name: str, generations: int) -> Mission:
    """
    Go down a tree of missions to the last one.
    """
    given = nested(generations - 1, name)
    top = Task(id=name, role=MISSION_ROLE, input=given)
    limits = Limits(generations=generations)
    at = mission(top, id=name, limits=limits)
    while at.tasks[0].role == MISSION_ROLE:
        at = child_mission(at, at.tasks[0], 10_001)
    return at


@pytest.mark.parametrize(
    ("chars", "generations"), [(NAME_CHARS, Limits().generations), (60, 10)]
)
def test_the_deepest_tree_has_ids_that_a_server_takes(
    chars: int, generations: int
) -> None:
    """
    With the longest names at the default depth, with long ones at the greatest; in
    late rounds, with a fan-out at the end.
    """
    name = "n" * chars
    last = deepest(name, generations)
    assert len(last.id) <= MISSION_ID_CHARS
    assert len(str(FanOutId(last.id, "n" * NAME_CHARS, 10_001))) <= ID_CHARS
    assert len(str(AttemptId("n" * NAME_CHARS, "r" * NAME_CHARS, 10**6))) <= ID_CHARS


def test_a_tree_whose_ids_grow_too_long_is_refused() -> None:
    """
    Naming the task, before anything of it runs.
    """
    with pytest.raises(BadInputError, match="choose shorter names"):
        deepest("n" * NAME_CHARS, 10)


@pytest.mark.parametrize("id_", ["m~child~t", "m~run~1", "m" * (NAME_CHARS + 1)])
def test_a_user_cannot_give_a_mission_a_composed_id(id_: str) -> None:
    """
    What makes missions within others says to which logical mission they belong.
    """
    with pytest.raises(ValidationError, match="an id has up to 100 letters"):
        mission(id=id_)
    if "~" in id_:
        assert mission(id=id_, scope=Scope(path="m")).id == id_


def test_a_user_cannot_give_a_batch_a_composed_id() -> None:
    """
    As little as a mission.
    """
    with pytest.raises(ValidationError, match="an id has up to 100 letters"):
        Batch(id="m~fanout~t", role="worker")
    assert Batch(id="m~fanout~t", role="worker", scope=Scope(path="m"))


def test_each_role_has_queues_of_its_own() -> None:
    """
    A queue is named after its role.
    """
    assert str(QueueId("role", "writer")) == "outlast~role~writer"


# A text that an id could be parted by, or made with.
PARTED = re.compile(r"(^|\w)~(\w|$)")


def literals(source: str) -> list[str]:
    """
    List the texts of a module that are no docstrings.
    """
    tree = ast.parse(source)
    prose = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    return [
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant)
        and isinstance(each.value, str)
        and id(each) not in prose
    ]


def test_no_other_module_composes_or_splits_an_id() -> None:
    """
    The separator stands in the texts of one module of the engine, and of no workflow.
    """
    engine = Path(outlast.__file__).parent
    files = [*engine.rglob("*.py"), *(engine / "workflows").resolve().rglob("*.py")]
    having = {
        path.name
        for path in files
        if not path.is_relative_to(engine / "crew")
        and any(map(PARTED.search, literals(path.read_text())))
    }
    assert having == {"ids.py"}
