"""
The guest: whatever an agent's code does, its task ends as its policy says, nothing
happens twice, and its neighbours live.

Each stack runs all missions of `case_missions` once; each test reads how one ended.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from case_missions import NEIGHBOURS, calm, rough

from outlast.dev.ports import free_port
from outlast.dev.server import DevServer
from testkit.postgres import Postgres
from testkit.processes import PROJECT_FOLDER, FleetProcess, Home, wait_for

CASES = PROJECT_FOLDER / "tests" / "cases"
MODULES = [
    *("c01_swallowed", "c01b_swallowed_budget", "c02_groups", "c03_base", "c05_items"),
    *("c06_roundtrip", "c08_children", "c11_fork_state", "c17_parallel"),
    *("c18_blocking", "c20_unicode", "c22_wrapped", "c26_later", "c36_large"),
    "c38_native",
]
# A module with a thread makes forking unsafe: its fleet starts workers by exec.
THREADED = "c32_thread"

# The same missions once more, started by exec and on PostgreSQL: a minute each.
EXECED = pytest.param("execed", marks=pytest.mark.long)
SHARED = pytest.param("shared", marks=pytest.mark.long)

# At most four attempts fail, as the policy of an agent that says nothing has it.
FAILURES = 4


@dataclass
class Stack:
    """
    A fleet that serves the cases, and how each mission ended on it.
    """

    home: Home
    folder: Path
    fleet: FleetProcess
    ended: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, Any] = field(default_factory=dict)

    def play(self, missions: dict[str, Any], how: str) -> None:
        path = self.folder / f"{how}.json"
        path.write_text(json.dumps(missions))
        said = self.home.run("tests/processes/play_cases.py", str(path), how)
        assert said.code == 0, said.err[-3000:]
        for line in said.out.splitlines():
            ended = json.loads(line)
            self.ended[ended["mission"]] = ended

    def batch(self, name: str) -> None:
        items = str(CASES / f"{name}.jsonl")
        said = self.home.starter("batch", items, "--agent", "c05-item", "--json")
        self.batches[name] = json.loads(said.out or "{}") | {"err": said.err}

    def task(self, mission: str, task: str = "t") -> dict[str, Any]:
        ended = self.ended[mission]
        assert "hung" not in ended, ended
        found: dict[str, Any] = ended["tasks"][task]
        return found

    def result(self, mission: str, task: str = "t") -> Any:
        return self.ended[mission]["results"][task]

    def log(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text().splitlines()


def stack(folder: Path, modules: list[str], extra: dict[str, str]) -> Iterator[Stack]:
    path = folder / "home"
    path.mkdir(mode=0o700)
    agents = ",".join(str(CASES / f"{name}.py") for name in modules)
    home = Home(path, DevServer(path, free_port(), free_port()))
    home.extra = {"OUTLAST_AGENTS": agents, "PYTHONPATH": str(PROJECT_FOLDER), **extra}
    home.start_server()
    try:
        made = Stack(home, folder, home.fleet())
        made.play(calm(str(folder)), "calm")
        yield made
    finally:
        home.close()


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    for made in stack(tmp_path_factory.mktemp("forked"), MODULES, {}):
        made.play(rough(str(made.folder)), "rough")
        for name in ("c05_cancelled", "c05_swallow"):
            made.batch(name)
        yield made


@pytest.fixture(scope="module")
def execed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    modules = [*MODULES, THREADED]
    for made in stack(tmp_path_factory.mktemp("execed"), modules, {}):
        dies = {"id": "c32", "tasks": [{"id": "t", "role": "c32-thread"}]}
        made.play({**rough(str(made.folder)), "c32": dies}, "rough")
        yield made


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[Stack]:
    extra = {"OUTLAST_DATABASE_URL": postgres.database()}
    yield from stack(tmp_path_factory.mktemp("shared"), MODULES, extra)


@pytest.fixture(params=["forked", EXECED, SHARED])
def on(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["forked", EXECED])
def alone(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


# -- what the context raises ends the attempt, whatever the agent catches


@pytest.mark.parametrize(
    ("mission", "key"), [("c01", "c01:pay"), ("c02-approval", "c02:pay")]
)
def test_an_effect_waits_for_a_person_whatever_the_agent_catches(
    on: Stack, mission: str, key: str
) -> None:
    """
    Swallowed or in a group: asked, waited for, and done once it is approved.
    """
    assert key in json.dumps(on.ended[mission]["asked"])
    assert on.task(mission)["status"] == "done"
    assert "paid" in on.result(mission)["summary"]


def test_a_swallowed_effect_happens_once(on: Stack) -> None:
    assert len(on.log("c01")) == 1


def test_a_budget_ends_an_agent_that_catches_its_end(on: Stack) -> None:
    """
    3,000 tokens are three calls of 1,000, and the one that finds that out.
    """
    task = on.task("c01b")
    assert task["status"] == "skipped"
    assert any("4000 tokens used" in reason for reason in task["reasons"])


# -- every end is counted


def test_a_give_up_in_a_group_is_one_attempt(on: Stack) -> None:
    task = on.task("c02-giveup")
    assert (task["status"], task["attempts"]) == ("dead", 1)
    assert "the account does not exist" in str(task["reasons"])
    assert on.log("c02g") == ["attempt 1"]


def test_the_cause_in_a_group_is_named(on: Stack) -> None:
    (reason,) = on.task("c02-plain-group")["reasons"]
    assert "ValueError: column 'iban' is missing in customers.csv" in reason
    assert "(c02_groups.py:" in reason


@pytest.mark.parametrize(
    "kind", ["base", "cancelled", "keyboard", "keyboard-plain", "exit-in-group"]
)
def test_an_odd_end_is_a_counted_failure_of_its_attempt_alone(
    on: Stack, kind: str
) -> None:
    odd = on.task(f"c03-{kind}", "odd")
    assert (odd["status"], odd["attempts"]) == ("dead", FAILURES)
    assert len(on.log(f"c03-{kind}")) == FAILURES
    for name in NEIGHBOURS:
        neighbour = on.task(f"c03-{kind}", name)
        assert (neighbour["status"], neighbour["attempts"]) == ("done", 1)


@pytest.mark.parametrize("name", ["c05_cancelled", "c05_swallow"])
def test_an_item_that_leaks_a_cancellation_is_a_dead_letter(
    forked: Stack, name: str
) -> None:
    """
    And its batch ends: 39 of 40 are done.
    """
    told = forked.batches[name]
    assert (told.get("done"), told.get("dead")) == (39, 1), told


# -- done once


@pytest.mark.parametrize(
    ("mission", "log"),
    [
        *(("c17-repeat", "c17r"), ("c17-park", "c17p")),
        *(("c17-across-repeat", "c17ar"), ("c17-across-park", "c17ap")),
    ],
)
def test_one_key_asked_for_twice_at_once_acts_once(
    on: Stack, mission: str, log: str
) -> None:
    for task in on.ended[mission]["tasks"].values():
        assert (task["status"], task["attempts"]) == ("done", 1)
    for summary in (each["summary"] for each in on.ended[mission]["results"].values()):
        assert "{'receipt': 1}" in summary
    assert len(on.log(log)) == 2  # begun and paid


def test_saves_at_the_same_moment_lose_nothing(on: Stack) -> None:
    assert on.result("c17-saves")["summary"] == f"resumed {list(range(8))}"


# -- what was saved comes back, or is refused when it is saved


@pytest.mark.parametrize(
    "name",
    [
        *("alias", "alias-default", "strict", "base64", "computed", "inf", "int-keys"),
        *("json", "rich", "secret", "subclass"),
    ],
)
def test_progress_comes_back_or_is_refused_at_once(on: Stack, name: str) -> None:
    task = on.task("c06", name)
    if task["status"] == "dead":
        assert task["attempts"] == 1, task
        assert "hiccuped" not in str(task["reasons"])
    else:
        assert on.result("c06", name)["summary"].startswith("same=True"), task


def test_a_result_comes_back_as_what_the_next_one_needs(on: Stack) -> None:
    assert "order_id=1" in on.result("c06", "take")["summary"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *(("result", "dead"), ("save", "dead"), ("emit", "done"), ("raise", "dead")),
        *(("content", "dead"), ("once-result", None), ("nul-result", None)),
        *(("nul-raise", "dead"), ("nul-content", None), ("nul-key", "dead")),
        *(("bytes", None), ("escape", "done")),
    ],
)
def test_what_cannot_be_encoded_is_replaced_or_refused_once(
    on: Stack, name: str, status: str | None
) -> None:
    """
    Replaced where it is only shown, refused where it is data, retried never.
    """
    task = on.task("c20", name)
    if status is not None:
        assert task["status"] == status, task
    raised = name.endswith("raise")
    assert task["attempts"] == (2 if raised else 1), task  # their policy has two
    assert not re.search("[\x00-\x08\x0e-\x1f\ud800-\udfff]", str(task["reasons"]))


def test_a_result_that_cannot_be_kept_is_refused_once(on: Stack) -> None:
    task = on.task("c36", "nested")
    assert (task["status"], task["attempts"]) == ("dead", 1)


def test_a_large_result_is_kept(on: Stack) -> None:
    task = on.task("c36", "large")
    assert (task["status"], task["attempts"]) == ("done", 1)


@pytest.mark.parametrize("name", ["recursion", "memory"])
def test_running_out_is_a_failure(on: Stack, name: str) -> None:
    task = on.task("c36", name)
    assert (task["status"], task["attempts"]) == ("dead", FAILURES)


@pytest.mark.parametrize("name", ["wrapped", "object", "partial"])
def test_agents_that_do_not_look_async_are_played(on: Stack, name: str) -> None:
    task = on.task("c22", name)
    assert (task["status"], task["attempts"]) == ("done", 1)


def test_a_fork_has_random_numbers_of_its_own(on: Stack) -> None:
    """
    Also from a `random.Random()` that was made at import.
    """
    tickets = [line.split(" ticket ")[1].split()[0] for line in on.log("c11")]
    assert len(set(tickets)) == len(tickets)


# -- processes and blocking code


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ("c08-terminate", "child survived terminate: False"),
        ("c08-pool", "attempt 1: [0, 1, 4, 9, 16]"),
        ("c08-forkpool", "[0, 1, 4, 9, 16]"),
        ("c08-spawn", "[0, 1, 4, 9, 16]"),
        ("c08-subprocess", "42"),
        ("c18-effect", "{'receipt': 1}"),
        ("c18-effect-park", "{'receipt': 1}"),
        ("c18-plain", "{'receipt': 1}"),
        ("c18-look", "looked"),
        ("c26-later", "attempt 2"),
        ("c38-native", "24199999890000000"),
    ],
)
def test_ordinary_python_works_in_one_attempt(
    alone: Stack, role: str, told: str
) -> None:
    task = alone.task(role)
    assert task["status"] == "done", task
    assert told in alone.result(role)["summary"]
    assert task["attempts"] == (2 if role == "c26-later" else 1)


def test_a_dead_workers_command_is_dead_before_the_next_attempt(alone: Stack) -> None:
    assert alone.task("c09-orphan")["status"] == "done"
    whose = [line.split()[0] for line in alone.log("c09-orphan")]
    assert whose == sorted(whose)  # nothing of attempt 1 after attempt 2 began


@pytest.mark.long
def test_what_cannot_be_forked_goes_on_from_its_save(execed: Stack) -> None:
    assert execed.task("c32")["summary"] == "attempt 3 resumed 2"


# -- afterwards


def test_nothing_happened_twice(on: Stack) -> None:
    """
    And nothing else that was promised is broken.
    """
    said = on.home.starter("audit", "--json")
    assert said.code == 0, said.out
    assert all(each["applied"] <= 1 for each in said.json["effects"])


def test_the_fleet_is_whole_afterwards(alone: Stack) -> None:
    """
    Nothing is in flight or leaked; a process that had leaked an attempt is replaced.
    """

    def whole() -> bool:
        health = alone.fleet.health()
        idle = (
            not each["in_flight"] and not each.get("leaked")
            for each in health["processes"]
        )
        return bool(health["ready"]) and all(idle)

    wait_for(whole, "a whole fleet")
