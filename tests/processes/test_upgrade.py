"""
Two builds of the same agents side by side: what began on the old one ends there, what
begins after the promotion is of the new one.
"""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builds import Upgrade, code_of

from outlast.contracts.ids import FanOutId
from testkit.processes import FleetProcess, Home, events, mission, wait_for

pytestmark = pytest.mark.timeout(180)

OLD, NEW = "2025.1", "2025.2"


@pytest.fixture
def upgrade(home: Home, tmp_path: Path) -> Upgrade:
    return Upgrade(home, tmp_path)


@dataclass
class Chain:
    """
    A mission of a task that lasts until its gate is open, one that needs it, and one
    that then spreads items over the pool.
    """

    home: Home
    name: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.jsonl"

    def begin(self) -> None:
        script = {"steps": 3, "step_seconds": 0.1, "log": str(self.log)}
        first = {"id": "first", "role": "teller", "input": script}
        later = {**first, "id": "later", "needs": ["first"]}
        many = {**first, "id": "many", "role": "spreader", "needs": ["later"]}
        tasks = [first, later, many]
        path = mission(self.folder / f"{self.name}.yaml", tasks, id=self.name)
        self.starter: subprocess.Popen[str] = self.home.begin("run", path, "--json")

    def open(self) -> None:
        """
        Let the first task end.
        """
        self.log.with_suffix(".open").touch()

    def ends(self) -> dict[str, Any]:
        """
        Wait for the report; returns the results by task.
        """
        self.open()
        out, err = self.starter.communicate(timeout=60)
        assert self.starter.returncode == 0, err
        return {each["id"]: each["result"] for each in json.loads(out)["tasks"]}

    def items(self) -> set[str]:
        """
        Read what the items of its batch have come to.
        """
        told = self.home.starter("results", str(FanOutId(self.name, "many")))
        assert told.code == 0, told.err
        return {json.loads(line)["result"] for line in told.out.splitlines()}

    def was_wholly(self, build: str) -> None:
        """
        Check that no line of another build's code has run.
        """
        results = self.ends()
        assert (results["first"], results["later"]) == (build, build)
        assert self.items() == {build}
        played = code_of(self.log)
        assert {"first", "later"} < set(played), "the items' code has left no line"
        assert set().union(*played.values()) == {build}


def test_what_has_begun_ends_on_its_own_build(upgrade: Upgrade, tmp_path: Path) -> None:
    """
    A mission that is under way at the promotion stays with the old code: a task that
    begins later, one whose process is killed, and the child workflow of a batch too.
    One that begins afterwards is of the new code alone; then the old build is drained.
    """
    home = upgrade.home
    first, second = Chain(home, "first", tmp_path), Chain(home, "second", tmp_path)
    old = upgrade.fleet(OLD, processes=2)
    assert upgrade.becomes(OLD, "current")["fleets"] == 1
    first.begin()
    wait_for(lambda: events(first.log, "step"), "the first step")

    new = upgrade.fleet(NEW)
    assert upgrade.promote(NEW) == OLD
    second.begin()
    kill_holder(first)
    second.was_wholly(NEW)
    known = upgrade.known()
    assert (known[OLD]["status"], known[OLD]["open_workflows"]) == ("draining", 1)
    assert (known[NEW]["status"], known[NEW]["fleets"]) == ("current", 1)
    assert not code_of(first.log).get("later"), "it began before the promotion"
    first.was_wholly(OLD)

    drained = upgrade.becomes(OLD, "drained")
    assert (drained["open_workflows"], drained["fleets"]) == (0, 1)
    assert "its fleets may stop" in home.starter("builds").out
    assert old.health()["build"] == OLD
    assert builds_of(home) == {OLD, NEW}
    assert old.stop() == 0
    assert_not_promoted(upgrade, OLD)
    assert new.stop() == 0


def kill_holder(chain: Chain) -> None:
    """
    SIGKILL the process that has the mission's task; it goes on as soon as ever.
    """
    killed_at = time.time()
    os.kill(events(chain.log, "step")[-1]["pid"], signal.SIGKILL)
    again = wait_for(lambda: events(chain.log, "start")[1:], "a second attempt")
    assert again[0]["at"] - killed_at < 3.0


def builds_of(home: Home) -> set[str]:
    """
    Ask the starter with which builds live workers poll.
    """
    told = home.starter("workers", "--json")
    assert told.code == 0, told.err
    return {each["build"] for each in told.json}


def assert_not_promoted(upgrade: Upgrade, build: str) -> None:
    """
    Check that a build with which nobody polls is refused in one sentence.
    """
    refused = upgrade.home.starter("promote", build)
    assert refused.code == 2, refused.out
    (sentence,) = refused.err.splitlines()
    assert sentence.startswith(f"error: no worker polls with build '{build}'")
    assert NEW in sentence, "it does not name those that do"
    assert upgrade.known()[NEW]["status"] == "current"


def test_a_first_build_takes_nothing_from_workers_without_one(
    upgrade: Upgrade, tmp_path: Path
) -> None:
    """
    While a fleet without a build works, the first build waits for the operator's word;
    once that fleet is gone it promotes itself, and no mission waits for ever.
    """
    home = upgrade.home
    without = upgrade.fleet("")
    under_way = Chain(home, "under-way", tmp_path)
    under_way.begin()
    wait_for(lambda: events(under_way.log, "step"), "the first step")
    named = upgrade.fleet(NEW)
    assert upgrade.becomes(NEW, "waiting")["fleets"] == 1
    under_way.was_wholly("")
    assert upgrade.known()[NEW]["status"] == "waiting"

    assert without.stop() == 0
    orphan = Chain(home, "orphan", tmp_path)
    orphan.begin()
    orphan.was_wholly(NEW)
    assert named.stop() == 0


def test_going_back_is_a_promotion_too(upgrade: Upgrade, tmp_path: Path) -> None:
    """
    The build before, or workers without one, get the new missions again.
    """
    upgrade.fleet(OLD)
    upgrade.becomes(OLD, "current")
    upgrade.fleet(NEW)
    upgrade.promote(NEW)
    assert upgrade.promote(OLD) == NEW
    again = Chain(upgrade.home, "again", tmp_path)
    again.begin()
    again.was_wholly(OLD)

    without: FleetProcess = upgrade.fleet("")
    told = upgrade.home.starter("promote", "--none", "--json")
    assert told.json == {"current": "", "before": OLD}, told.err
    plain = Chain(upgrade.home, "plain", tmp_path)
    plain.begin()
    plain.was_wholly("")
    assert without.stop() == 0
