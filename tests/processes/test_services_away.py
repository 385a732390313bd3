"""
An outside service that is away, over two fleets: what needs it waits, and nothing is
charged for that.
"""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.retries import DEFAULT_BREAKER_POLICY
from testkit.fake_service import FakeService, NotedCall
from testkit.processes import PROJECT_FOLDER, Home, mission, running_home, wait_for

pytestmark = pytest.mark.timeout(120)

AWAY_S = 3.0
# Attempts that may be under way when the circuit opens: two fleets of two processes.
UNDER_WAY = 2 * 2 * 4


@pytest.fixture(scope="module")
def service() -> Iterator[FakeService]:
    made = FakeService(seconds=0.01)
    yield made
    made.close()


@pytest.fixture(scope="module")
def home(
    service: FakeService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    extra = {
        "OUTLAST_AGENTS": str(PROJECT_FOLDER / "tests/cases/payer.py"),
        "PAYMENTS_URL": service.url,
        "PYTHONPATH": str(PROJECT_FOLDER),
    }
    with running_home(tmp_path_factory.mktemp("away") / "home", **extra) as made:
        made.fleet()
        made.fleet()
        yield made


def back_after(service: FakeService, seconds: float, status: int = 503) -> None:
    """
    Have *service* away from its next call on, for so long.
    """
    seen = len(service.calls)
    service.status = status

    def come_back() -> None:
        wait_for(lambda: len(service.calls) > seen, "the first call")
        time.sleep(seconds)
        service.status = 200

    threading.Thread(target=come_back, daemon=True).start()


def run(home: Home, folder: Path, role: str, tasks: int, tenant: str) -> dict[str, Any]:
    asked = [{"id": f"t{n}", "role": role, "input": {"n": n}} for n in range(tasks)]
    path = mission(folder / "away.yaml", asked, tenant=tenant)
    report: dict[str, Any] = home.starter("run", path, "--json").json
    return report


def ends(home: Home) -> Counter[str | None]:
    """
    Count how attempts have ended, by their failure types.
    """
    with sqlite3.connect(home.path / "store.db") as store:
        query = "SELECT failure_type, count(*) FROM attempts GROUP BY 1"
        return Counter(dict(store.execute(query).fetchall()))


def probes(calls: list[NotedCall]) -> list[NotedCall]:
    """
    Pick the calls that went out after the circuit had opened.
    """
    failed = [each for each in calls if each.status != 200]
    opened = sorted(each.ended for each in failed)[DEFAULT_BREAKER_POLICY.failures - 1]
    return [each for each in failed if each.began > opened + 0.3]


def test_tasks_wait_for_a_service_and_nothing_is_counted(
    home: Home, service: FakeService, tmp_path: Path
) -> None:
    """
    One failure budget for both fleets, then one probe at a time; once it is back, all
    of them are done within seconds, no faster than the release rate.
    """
    service.calls.clear()
    back_after(service, AWAY_S)
    report = run(home, tmp_path, "payer", 40, "tasks")
    assert report["status"] == "completed", report
    assert ends(home).keys() <= {None, "Service", "ServiceAway"}

    failed = [each for each in service.calls if each.status != 200]
    answered = [each for each in service.calls if each.status == 200]
    probing = probes(service.calls)
    assert probing
    assert len(failed) - len(probing) <= UNDER_WAY
    assert all(one.ended <= other.began for one, other in pairwise(probing))
    assert sorted(each.number for each in answered) == list(range(40))
    last = max(each.ended for each in failed)
    assert min(each.began for each in answered) - last < 5


def test_items_wait_for_a_service_and_nothing_is_counted(
    home: Home, service: FakeService, tmp_path: Path
) -> None:
    """
    As tasks do; each is paid for once.
    """
    service.calls.clear()
    back_after(service, AWAY_S)
    items = tmp_path / "items.jsonl"
    items.write_text("".join(f"{json.dumps({'n': n})}\n" for n in range(300)))
    what = ("batch", str(items), "--agent", "payer", "--id", "away", "--json")
    report = home.starter(*what).json
    assert (report["done"], report["dead"]) == (300, 0)
    answered = [each.number for each in service.calls if each.status == 200]
    assert sorted(answered) == list(range(300))
    assert probes(service.calls)


def test_another_route_is_taken_at_once(
    home: Home, service: FakeService, tmp_path: Path
) -> None:
    """
    After one failure budget for the whole crew, and the report says so.
    """
    service.status = 503
    began = time.monotonic()
    try:
        report = run(home, tmp_path, "payer_with_route", 20, "routes")
    finally:
        service.status = 200
    assert time.monotonic() - began < 20
    assert report["status"] == "degraded"
    assert {each["route"] for each in report["tasks"]} == {"invoicer"}
    assert any("payments is away" in reason for reason in report["degraded"])


def test_patience_ends_the_wait(
    home: Home, service: FakeService, tmp_path: Path
) -> None:
    """
    Past the policy's patience the task is a dead letter that names the service.
    """
    service.status = 503
    try:
        report = run(home, tmp_path, "impatient_payer", 1, "patience")
    finally:
        service.status = 200
    [task] = report["tasks"]
    assert task["status"] == "dead"
    assert "waited for 1 s in vain" in str(task)
