"""
What a user gives: a mission, or one sentence on what to change.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit_fakes import told_in_one_sentence

import outlast.temporal.missions
from outlast.cli import mission_file
from outlast.contracts.errors import BadInputError
from outlast.contracts.missions import Mission
from outlast.contracts.sizes import MAX_RESULT_BYTES
from outlast.settings import Settings

GOOD = """
id: trial
goal: try it
tasks:
  - {id: a, role: rehearse, input: {steps: 1}}
  - {id: b, role: rehearse, input: {steps: 1}, needs: [a]}
"""

ONE_TASK = "tasks: [{id: a, role: rehearse}]"


@pytest.fixture(autouse=True)
def _small_crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Settings of the test's own: a home in its folder, one module of agents.
    """

    class Small(Settings):
        @property
        def modules(self) -> list[str]:
            return ["outlast.crew.scripted_agent"]

    small = Small(home=tmp_path / "home")
    monkeypatch.setattr(outlast.temporal.missions, "settings", lambda: small)
    monkeypatch.setattr(mission_file, "settings", lambda: small)


def resolved(path: Path, name: str | None = None) -> Mission:
    """
    Do with a mission file what the starter does before anything starts.
    """
    return outlast.temporal.missions.with_routes(mission_file.mission_file(path, name))


def refusal(act: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(BadInputError) as error:
        act(*args)
    return told_in_one_sentence(error.value)


def file_refusal(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "mission.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return refusal(resolved, path)


# Mission files


def test_a_good_file_is_a_mission(tmp_path: Path) -> None:
    """
    Everything in it arrives, with the crew's routes.
    """
    path = tmp_path / "mission.yaml"
    path.write_text(GOOD)
    made = resolved(path)
    assert (made.id, made.goal) == ("trial", "try it")
    assert [each.needs for each in made.tasks] == [[], ["a"]]
    assert made.crew["rehearse"].routes == ["rehearse"]


def test_an_id_on_the_command_line_wins(tmp_path: Path) -> None:
    """
    The same file may be run again under another id.
    """
    path = tmp_path / "mission.yaml"
    path.write_text(GOOD)
    assert resolved(path, "again").id == "again"


@pytest.mark.parametrize("stem", ["mission", "Größe 1", "-", "_", "x" * 300, "..."])
def test_a_file_without_an_id_gets_one(tmp_path: Path, stem: str) -> None:
    """
    It is made of the file's name, fits any name, and is never used twice.
    """
    made = {mission_file.new_mission_id(stem) for _ in range(20)}
    assert len(made) == 20
    for name in made:
        mission_file.build_mission(
            {"id": name, "goal": "g", "tasks": [{"id": "a", "role": "r"}]}
        )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """
    The sentence names the path and the cause.
    """
    path = tmp_path / "nowhere.yaml"
    told = refusal(resolved, path)
    assert told == f"{path} cannot be read: No such file or directory"


def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    """
    The cause is the system's own word for it.
    """
    assert "Is a directory" in refusal(resolved, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "# only a comment", "just text", "- a\n- b", "42", "null"],
    ids=repr,
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """
    A mission has fields.
    """
    assert file_refusal(tmp_path, text).endswith("must hold goal and tasks")


BAD_FIELDS = {
    "no goal": (ONE_TASK, "goal"),
    "empty goal": (f"goal: ''\n{ONE_TASK}", "goal"),
    "long goal": (f"goal: {'g' * 2001}\n{ONE_TASK}", "goal"),
    "goal of another type": (f"goal: [1]\n{ONE_TASK}", "goal"),
    "goal is a date": (f"goal: 2024-05-01\n{ONE_TASK}", "goal"),
    "no tasks": ("goal: g", "tasks"),
    "empty tasks": ("goal: g\ntasks: []", "tasks"),
    "tasks of another type": ("goal: g\ntasks: {a: b}", "tasks"),
    "task of another type": ("goal: g\ntasks: [a]", "tasks.0"),
    "task without a role": ("goal: g\ntasks: [{id: a}]", "tasks.0.role"),
    "bad task id": ("goal: g\ntasks: [{id: a b, role: r}]", "tasks.0.id"),
    "bad mission id": (f"id: a/b\ngoal: g\n{ONE_TASK}", "id"),
    "null id": (f"id: null\ngoal: g\n{ONE_TASK}", "id"),
    "number as id": (f"id: 7\ngoal: g\n{ONE_TASK}", "id"),
    "long id": (f"id: {'a' * 101}\ngoal: g\n{ONE_TASK}", "id"),
    "bad tenant": (f"goal: g\ntenant: '#'\n{ONE_TASK}", "tenant"),
    "unknown field": (f"goal: g\nbudget: 3\n{ONE_TASK}", "budget"),
    "unknown field of a task": (
        "goal: g\ntasks: [{id: a, role: r, need: []}]",
        "tasks.0.need",
    ),
    "field that is no name": (f"goal: g\n1: 2\n{ONE_TASK}", "1"),
    "limit of another type": (f"goal: g\nlimits: {{tasks: x}}\n{ONE_TASK}", "tasks"),
    "limit over its cap": (f"goal: g\nlimits: {{tasks: 5001}}\n{ONE_TASK}", "tasks"),
    "no time": (f"goal: g\nlimits: {{deadline_s: 0}}\n{ONE_TASK}", "deadline_s"),
    "input that is no JSON": (
        "goal: g\ntasks: [{id: a, role: r, input: {day: 2024-05-01}}]",
        "tasks.0.input.day",
    ),
    "set": ("goal: g\ntasks: !!set {a, b}", "tasks"),
}


@pytest.mark.parametrize("case", BAD_FIELDS)
def test_a_field_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    """
    The sentence names the first such field first.
    """
    text, field = BAD_FIELDS[case]
    told = file_refusal(tmp_path, text)
    assert told.startswith("the mission's ")
    assert field in told.split(":")[0]


def test_a_misspelt_field_is_named_beside_the_one_it_leaves_out(tmp_path: Path) -> None:
    """
    All that does not fit is named: the second fault explains the first.
    """
    told = file_refusal(tmp_path, "goal: g\ntaks: []")
    assert "tasks: Field required" in told
    assert "taks: Extra inputs are not permitted" in told


def test_of_many_faults_the_first_are_named(tmp_path: Path) -> None:
    """
    A file of another kind is still refused in a sentence that can be read.
    """
    text = "\n".join(f"key{number}: 1" for number in range(30))
    told = file_refusal(tmp_path, text)
    assert told.endswith("; and 27 more")


BAD_PLANS = {
    "circle": (
        "{id: a, role: rehearse, needs: [b]}, {id: b, role: rehearse, needs: [a]}",
        "a, b",
    ),
    "unknown role": ("{id: a, role: poet}", "'poet'"),
    "unknown need": ("{id: a, role: rehearse, needs: [ghost]}", "'ghost'"),
    "duplicate": ("{id: a, role: rehearse}, {id: a, role: rehearse}", "'a'"),
    "large input": (f"{{id: a, role: rehearse, input: {{x: {'x' * 33_000}}}}}", "'a'"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_plan_that_contradicts_itself_is_refused(tmp_path: Path, case: str) -> None:
    """
    Found before anything starts, named in one sentence.
    """
    tasks, named = BAD_PLANS[case]
    assert named in file_refusal(tmp_path, f"goal: g\ntasks: [{tasks}]")


@pytest.mark.parametrize(
    ("limits", "told"),
    [("tasks: 2", "3 tasks are over the limit of 2"), ("depth: 2", "a chain of 3")],
)
def test_a_plan_over_its_caps_is_refused(
    tmp_path: Path, limits: str, told: str
) -> None:
    """
    The mission's own limits hold for what it holds.
    """
    tasks = "".join(
        f"\n  - {{id: t{n}, role: rehearse, needs: [{f't{n - 1}' if n else ''}]}}"
        for n in range(3)
    )
    text = f"goal: g\nlimits: {{{limits}}}\ntasks:{tasks}"
    assert file_refusal(tmp_path, text).startswith(told)


def test_more_tasks_than_any_mission_may_have_are_refused(tmp_path: Path) -> None:
    """
    100 unless the mission says otherwise, and never more than 500.
    """
    tasks = "".join(f"\n  - {{id: t{n}, role: rehearse}}" for n in range(101))
    told = file_refusal(tmp_path, f"goal: g\ntasks:{tasks}")
    assert told == "101 tasks are over the limit of 100"


def test_a_crew_in_a_file_is_refused(tmp_path: Path) -> None:
    """
    Who is there to do it is the workers' to say.
    """
    told = file_refusal(tmp_path, f"{GOOD}crew: {{rehearse: {{routes: [x]}}}}")
    assert told.startswith("crew is not for a mission file")


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    """
    Ten lines that unfold to a billion items are refused before they do.
    """
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    assert "aliases" in file_refusal(tmp_path, bomb)


@pytest.mark.parametrize("depth", [199, 250, 400, 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    """
    What the other side could not read again is not even sent.
    """
    nest = "[" * depth + "]" * depth
    given = f"{{steps: 1, needs: {{x: {nest}}}}}"
    text = f"goal: g\nid: deep\ntasks: [{{id: a, role: rehearse, input: {given}}}]"
    assert file_refusal(tmp_path, text)


@pytest.mark.parametrize("depth", [10, 50, 100, 150])
def test_what_is_accepted_can_be_read_again(tmp_path: Path, depth: int) -> None:
    """
    An accepted mission travels as JSON and arrives the same.
    """
    nest = "[" * depth + "]" * depth
    given = f"{{steps: 1, needs: {{x: {nest}}}}}"
    text = f"goal: g\nid: deep\ntasks: [{{id: a, role: rehearse, input: {given}}}]"
    path = tmp_path / "mission.yaml"
    path.write_text(text)
    made = resolved(path)
    assert Mission.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\x00g", "goal: caf\xe9".encode("latin-1")],
    ids=["utf-16", "latin"],
)
def test_what_is_not_utf8_is_refused(tmp_path: Path, text: bytes) -> None:
    """
    A file in another encoding is named, not guessed at.
    """
    assert file_refusal(tmp_path, text).endswith(
        "is not a text in UTF-8: save it as one"
    )


def test_a_file_with_a_mark_of_its_byte_order_is_read(tmp_path: Path) -> None:
    """
    UTF-8 as some editors on Windows write it is UTF-8.
    """
    path = tmp_path / "mission.yaml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert resolved(path).id == "trial"


def test_a_file_over_the_cap_is_refused(tmp_path: Path) -> None:
    """
    A large file is not even parsed.
    """
    told = file_refusal(tmp_path, b"#" * (MAX_RESULT_BYTES + 1))
    assert str(MAX_RESULT_BYTES) in told


@pytest.mark.parametrize(
    "text",
    [
        "goal: [unclosed",
        "goal: 'unclosed",
        "\tgoal: x",
        "goal: x: y",
        "goal: \x00",
        "a: 1\n---\nb: 2",
        "? [a]\n: b",
        "!!python/object:os.system {}",
        "goal: *nobody",
        "<<: 3",
    ],
    ids=repr,
)
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """
    The sentence has the parser's own words, on one line.
    """
    assert "not a mission in YAML" in file_refusal(tmp_path, text)


def test_a_fault_in_yaml_is_placed(tmp_path: Path) -> None:
    """
    Line and column, without the parser's excerpt of the text.
    """
    told = file_refusal(tmp_path, "goal: g\ntasks: x: y")
    assert told.endswith("mapping values are not allowed here in line 2, column 9")


@pytest.mark.parametrize(
    "value",
    [
        "2024-02-30",
        "2024-13-01",
        "0x_",
        "1" * 5000,
        "!!int abc",
        "!!float abc",
        "!!bool maybe",
        "!!timestamp soon",
    ],
    ids=lambda each: each[:20],
)
def test_a_value_that_yaml_cannot_make_is_refused(tmp_path: Path, value: str) -> None:
    """
    A day that there is not, a number that is none: bad input, never a traceback.
    """
    assert file_refusal(tmp_path, f"goal: g\nid: {value}\n{ONE_TASK}")
