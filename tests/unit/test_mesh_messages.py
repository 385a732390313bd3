"""
What a peer tells people: in its log, at its start, and when they ask about a task.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
from mesh_network import Network, mission

from outlast.cli import mesh, mission_file
from outlast.cli.output import print_ready
from outlast.contracts.models import Checkpoint, Mission
from outlast.mesh.core.effects import Cancel, Hold, Run
from outlast.mesh.core.events import CheckpointSaved, PartFinished
from outlast.mesh.core.projection import Progressed
from outlast.mesh.node import control_api
from outlast.mesh.node.change_log import Diary
from outlast.mesh.node.control_api import Desk


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = caplog.messages
    caplog.clear()
    return found


@pytest.fixture
def diary(caplog: pytest.LogCaptureFixture) -> Diary:
    caplog.set_level(logging.INFO, "outlast.mesh")
    return Diary("a")


def test_who_goes_and_comes_back_stands_in_the_log(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One line a change; a peer says nothing of itself.
    """
    diary.see(["a", "b", "c"])
    assert told(caplog) == ["peer.met b", "peer.met c"]
    diary.see(["a", "b"])
    assert told(caplog) == ["peer.away c"]
    diary.see(["a", "b"])
    assert told(caplog) == []
    diary.see(["a", "b", "c"])
    assert told(caplog) == ["peer.back c"]


def run(task: str, epoch: int, **parts: Progressed) -> Run:
    return Run(task, epoch, {}, dict(parts))


def test_a_task_that_is_taken_on_is_told_with_where_it_goes_on(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Each of its parts from the furthest progress that is known here.
    """
    of = {"task": "job", "epoch": 1}
    checkpoint = Checkpoint(seq=146, value={})
    work = CheckpointSaved(**of, part="work", checkpoint=checkpoint)
    plan = PartFinished(**of, part="plan", answer="{}")
    diary.note(run("new", 1))
    diary.note(run("job", 2, work=work, plan=plan))
    assert told(caplog) == [
        "task.adopted new from its beginning",
        "task.adopted job from the end of plan, step 146 of work",
    ]


def test_a_held_run_that_goes_on_was_not_taken_on_again(
    diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It stayed this peer's own; one that was cancelled meanwhile did not.
    """
    diary.note(Hold("job", 1))
    diary.note(run("job", 1))
    diary.note(Hold("job", 1))
    diary.note(Cancel("job", 1, None))
    diary.note(run("job", 1))
    assert told(caplog) == [
        "task.resumed job",
        "task.adopted job from its beginning",
    ]


def test_the_start_of_a_peer_says_who_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Others join it by this address.
    """
    line: dict[str, Any] = {"address": "x", "ui": "x", "health": "x", "workers": []}
    print_ready({**line, "peer": "a", "mesh": "127.0.0.1:7946"})
    assert "peer       a at 127.0.0.1:7946\n" in capsys.readouterr().out
    print_ready(line)
    assert "peer" not in capsys.readouterr().out


def answers(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    """
    Have the peer on this home give *answer* to everything.
    """
    monkeypatch.setattr(mesh, "_ask", lambda what, *limit, **more: answer)


def test_the_status_of_a_failed_task_names_its_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    As the status of any mission does, and who knew of it.
    """
    brief = {"task": "job", "state": "failed", "owner": "b", "epoch": 2}
    report = {
        "mission": "job~run~2",
        "status": "failed",
        "degraded": ["work: no such file"],
    }
    more = {"parts": {}, "report": report, "knew": ["a", "b"], "evidence": []}
    answers(monkeypatch, {**brief, **more})
    mesh.status("job")
    assert capsys.readouterr().out.splitlines() == [
        "job  failed  b, epoch 2",
        "  known to a, b when it ended",
        "  lacks: work: no such file",
    ]


class Shell:
    """
    A peer for which *task* has ended, or has not.
    """

    def __init__(self, net: Network) -> None:
        self.core = next(each for each in net.cores if each.me.name == "a")

    async def submit(self, mission: Mission, copies: int) -> int:
        return copies


async def test_a_task_that_has_ended_is_not_said_to_be_taken_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Who hands the same in again learns how it ended.
    """
    monkeypatch.setattr(control_api, "resolve", lambda mission: mission)
    net = Network("abc", seed=1)
    net.run(1)
    front = Desk(Shell(net))  # type: ignore[arg-type]
    question = {"ask": "submit", "mission": mission("job").model_dump(mode="json")}
    assert "ended" not in await front.answer(question)
    net.submit("a", "job")
    net.run_until(lambda: net.all_finished(["job"]), 30)
    answer = await front.answer(question)
    assert answer["ended"] == "completed"
    answers(monkeypatch, answer)
    monkeypatch.setattr(mission_file, "mission_file", lambda file, name: mission("job"))
    mesh.submit(Path("job.yaml"))
    assert capsys.readouterr().out == "job has ended already: completed\n"
