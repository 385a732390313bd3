"""
The shipped image and docker-compose.yml, as they are, on a docker engine.

The tests follow one stack from its start, through faults and a restart, in their order.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine import Engine, Project

pytestmark = pytest.mark.containers

QUESTION = "When must driver positions in Waypost be deleted?"
MISSION = "in-containers"
TASKS = 4
STEPS = 60
STEP_S = 0.3


def wait_until(true: Callable[[], bool], what: str, within_s: float = 60) -> None:
    limit = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < limit, f"not within {within_s} s: {what}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def mission(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A mission of some 20 s: several tasks of many steps, so that both workers have some.
    """
    work = {"role": "rehearse", "input": {"steps": STEPS, "step_seconds": STEP_S}}
    tasks = [{"id": f"task-{n}", **work} for n in range(TASKS)]
    path = tmp_path_factory.mktemp("mission") / "mission.yaml"
    path.write_text(json.dumps({"id": MISSION, "goal": "Outlast", "tasks": tasks}))
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def test_all_services_come_up_healthy(stack: Project) -> None:
    """
    Each by its own check, after what it depends on; two workers.
    """
    health = stack.health()
    assert {*health.values()} == {"healthy"}, health
    assert len([name for name in health if "-worker-" in name]) == 2


def test_the_starter_answers_a_question(stack: Project) -> None:
    """
    The documented command, on the documents that are mounted.
    """
    said = stack.starter("ask", QUESTION, "--documents", "/documents")
    assert "after 90 days at the latest" in said
    assert "completed in" in said


def test_a_mission_outlives_a_worker_and_a_network(
    engine: Engine, stack: Project, mission: Path
) -> None:
    """
    One worker's container is killed and the other one's network cut, both at work.
    """
    first, second = stack.containers("worker")
    network = "outlast_default"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            stack.compose,
            *("run", "--rm", "-T", "--volume", f"{mission}:/mission.yaml:ro"),
            *("starter", "run", "/mission.yaml"),
        )
        wait_until(lambda: len(hosts_at_work(stack)) == 2, "both workers have a task")
        os.kill(int(engine.inspect(first, "{{.State.Pid}}")), signal.SIGKILL)
        wait_until(
            lambda: engine.inspect(first, "{{.RestartCount}}") == "1", "restarted"
        )
        engine.docker("network", "disconnect", network, second)
        time.sleep(5)
        engine.docker("network", "connect", network, second)
        assert "completed in" in running.result(timeout=180)
    wait_until(lambda: {*stack.health().values()} == {"healthy"}, "all are healthy")
    stack.starter("audit")
    told = stack.starter("explain", MISSION)
    assert told.count("attempt 1") == TASKS, told
    assert "attempt 2" in told, "neither fault met a task"


def hosts_at_work(stack: Project) -> set[str]:
    """
    Name the containers, by their short ids, that run a task now.
    """
    shown = json.loads(stack.starter("workers", "--json"))
    return {each["host"] for each in shown if each["in_flight"]}


def test_what_was_done_is_there_after_down_and_up(stack: Project) -> None:
    """
    Volumes keep both databases; the next question finds everything in its place.
    """
    stack.compose("down")
    stack.compose("up", "--detach", "--wait")
    assert "completed" in stack.starter("status", MISSION)
    stack.starter("doctor")
    said = stack.starter("ask", QUESTION, "--documents", "/documents")
    assert "after 90 days at the latest" in said
