"""
A crew that thinks with a model, while the model's service fails and heals and the
processes that think are killed.
"""

import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.retries import DEFAULT_BREAKER_POLICY
from testkit.fake_crew_model import FINAL_TOOL, answer_as_crew
from testkit.fake_model_server import FakeModelServer, ModelRequest, ToolCall
from testkit.processes import PROJECT_FOLDER, FleetProcess, Home, mission, wait_for

QUESTION = "How long are driver positions kept?"
MODEL = "openai-chat:scripted"
OTHER = "openai-chat:other"
THINKING = {
    "plan": "planner",
    "research-1": "researcher",
    "write": "writer",
    "review": "reviewer",
}


@pytest.fixture
def service(home: Home) -> Iterator[FakeModelServer]:
    with FakeModelServer(answer_as_crew, seed=11) as made:
        home.extra |= {
            "OUTLAST_MODEL": MODEL,
            "OUTLAST_FALLBACK_MODEL": OTHER,
            "OUTLAST_MODEL_SILENCE_S": "5",  # a crowded machine is slow, not silent
            "OPENAI_BASE_URL": made.url,
            "OPENAI_API_KEY": "none",
            "OUTLAST_OUTPUT_ROOT": tempfile.gettempdir(),
        }
        yield made


def ask(home: Home, folder: Path, tenant: str = "", name: str = "m") -> dict[str, Any]:
    """
    Ask the crew; returns the report, which there always is.

    :param name: of the report, which each tenant publishes once.
    """
    where = {"documents": str(PROJECT_FOLDER / "examples/documents")}
    plan = {**where, "question": QUESTION, "mission": name, "reports": str(folder)}
    tasks = [
        {"id": "shelve", "role": "shelver", "input": where},
        {"id": "index", "role": "librarian", "input": where, "needs": ["shelve"]},
        {"id": "plan", "role": "planner", "input": plan, "needs": ["index"]},
    ]
    tenant = tenant or f"t-{time.monotonic_ns()}"
    path = mission(folder / "ask.yaml", tasks, tenant=tenant)
    said = home.starter("run", path, "--json")
    assert said.code == 0, said
    report: dict[str, Any] = said.json
    return report


def thought_by(report: dict[str, Any]) -> dict[str, str]:
    """
    The routes of those tasks that a model can think about.
    """
    found = {each["id"]: each["route"] for each in report["tasks"]}
    return {task: found[task] for task in THINKING}


def all_by(ending: str) -> dict[str, str]:
    return {task: f"{role}{ending}" for task, role in THINKING.items()}


def turned(fleet: FleetProcess) -> Counter[str]:
    """
    Count the changes of the model's breaker, by the state it became.
    """
    return Counter(fleet.health()["counts"]["breakers"].get(MODEL, {}))


@pytest.mark.timeout(300)
def test_a_sick_model_degrades_the_answer_and_a_healed_one_thinks_again(
    home: Home, service: FakeModelServer, tmp_path: Path
) -> None:
    """
    Well: thought by the model. Confused: by the other one. Both of them sick: an answer
    all the same, by search and extraction. Each says why. Healed: thought by the model
    again, with no more calls than ever; each change of its breaker is counted.
    """
    fleet = home.fleet(processes=1)
    well = ask(home, tmp_path)
    assert (well["status"], well["degraded"]) == ("completed", [])
    assert thought_by(well) == all_by(".model")
    steady = len(service.calls)

    service.misbehave("garbage", "empty", "schema", only="scripted")
    confused = ask(home, tmp_path)
    assert thought_by(confused) == all_by(".fallback-model")
    assert_told(confused, MODEL)
    assert turned(fleet) == {}, "what it says is no sickness"

    service.misbehave("500", "reset", "429", "stall")
    sick = ask(home, tmp_path, "one")
    assert thought_by(sick)["plan"] == "planner"
    assert_told(sick, MODEL)
    assert_told(sick, OTHER)
    wait_for(lambda: turned(fleet)["open"], "the circuit to open")

    service.heal()
    healed_at = time.monotonic()
    # Nothing asks it now: the mission that comes after the pause is its probe.
    time.sleep(DEFAULT_BREAKER_POLICY.longest_pause_s + 0.5)
    again = ask(home, tmp_path, "one", "again")  # each tenant has its own circuits
    assert (again["status"], again["degraded"]) == ("completed", [])
    assert thought_by(again) == all_by(".model")
    after = [each for each in service.calls if each.at > healed_at]
    assert len(after) <= 1.5 * steady
    wait_for(lambda: turned(fleet)["closed"], "the change to be told")
    assert turned(fleet).keys() == {"open", "probing", "closed"}


def assert_told(report: dict[str, Any], model: str) -> None:
    """
    There is an answer, and the report says that *model* had no part in some of it.
    """
    assert report["status"] == "degraded", report
    assert any(model in reason for reason in report["degraded"]), report["degraded"]
    publish = next(each for each in report["tasks"] if each["id"] == "publish")
    assert publish["result"]["citations"]


def counting(asked: ModelRequest) -> list[ToolCall]:
    """
    Nine calls of a tool, two of which act, then the answer.
    """
    if asked.turn == 10:
        return [ToolCall(FINAL_TOOL, {"total": len(asked.texts)})]
    return [ToolCall("pay" if asked.turn in (3, 6) else "look", {"number": asked.turn})]


@pytest.mark.timeout(120)
def test_a_killed_conversation_goes_on_with_its_next_step(
    home: Home, service: FakeModelServer, tmp_path: Path
) -> None:
    """
    SIGKILL after the seventh of ten answers, once its tool is at work: the next attempt
    asks for the eighth, no answer is paid for twice, each effect happens once.
    """
    log = tmp_path / "log"
    service.script = counting
    home.extra["OUTLAST_AGENTS"] = str(Path(__file__).parent / "counting_agent.py")
    fleet = home.fleet(processes=2)
    task = {"id": "count", "role": "counter.model", "input": {"log": str(log)}}
    starter = home.begin("run", mission(tmp_path / "m.yaml", [task]), "--json")
    wait_for(lambda: log.exists() and "look 7" in log.read_text(), "the seventh step")
    assert [each.asked.turn for each in service.calls] == list(range(1, 8))

    busy = [each for each in fleet.health()["processes"] if each["in_flight"]]
    assert len(busy) == 1
    os.kill(busy[0]["pid"], signal.SIGKILL)

    out, err = starter.communicate(timeout=60)
    assert starter.returncode == 0, err
    (ended,) = json.loads(out)["tasks"]
    assert ended["result"] == {"total": 9}
    assert [each.asked.turn for each in service.calls] == list(range(1, 11))
    lines = Counter(log.read_text().splitlines())
    assert lines["pay 3"] == lines["pay 6"] == 1
    assert lines["look 7"] == 2, "the fault hit another step"
