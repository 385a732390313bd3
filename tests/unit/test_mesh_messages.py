"""
What a peer tells people: in its log, at its start, and when they ask about a task.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
from mesh_network import Network, mission
from unit_fakes import told_in_one_sentence

from outlast.cli import mesh, mission_file
from outlast.cli.dev import print_ready
from outlast.contracts.attempts import Checkpoint
from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import MeshRunId
from outlast.contracts.missions import Mission
from outlast.dev.stack_state import StackReady
from outlast.mesh.core.effects import CancelRun, StartRun, SuspendRun
from outlast.mesh.core.events import CheckpointSaved, Progressed, SubtaskFinished
from outlast.mesh.node import control_api
from outlast.mesh.node.change_log import ChangeLog
from outlast.mesh.node.control_api import ControlApi


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = caplog.messages
    caplog.clear()
    return found


@pytest.fixture
def diary(caplog: pytest.LogCaptureFixture) -> ChangeLog:
    caplog.set_level(logging.INFO, "outlast.mesh")
    return ChangeLog("a")


def test_who_goes_and_comes_back_stands_in_the_log(
    diary: ChangeLog, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One line a change; a peer says nothing of itself.
    """
    diary.log_members(["a", "b", "c"])
    assert told(caplog) == ["peer.met b", "peer.met c"]
    diary.log_members(["a", "b"])
    assert told(caplog) == ["peer.away c"]
    diary.log_members(["a", "b"])
    assert told(caplog) == []
    diary.log_members(["a", "b", "c"])
    assert told(caplog) == ["peer.back c"]


def run(task: str, epoch: int, **parts: Progressed) -> StartRun:
    return StartRun(MeshRunId(task, epoch), {}, dict(parts))


def test_a_task_that_is_taken_on_is_told_with_where_it_goes_on(
    diary: ChangeLog, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Each of its parts from the furthest progress that is known here.
    """
    of = {"task": "job", "epoch": 1}
    checkpoint = Checkpoint(seq=146, value={})
    work = CheckpointSaved(**of, subtask="work", checkpoint=checkpoint)
    plan = SubtaskFinished(**of, subtask="plan", answer="{}")
    diary.log_effect(run("new", 1))
    diary.log_effect(run("job", 2, work=work, plan=plan))
    assert told(caplog) == [
        "task.adopted new from its beginning",
        "task.adopted job from the end of plan, step 146 of work",
    ]


def test_a_held_run_that_goes_on_was_not_taken_on_again(
    diary: ChangeLog, caplog: pytest.LogCaptureFixture
) -> None:
    """
    It stayed this peer's own; one that was cancelled meanwhile did not.
    """
    diary.log_effect(SuspendRun(MeshRunId("job", 1)))
    diary.log_effect(run("job", 1))
    diary.log_effect(SuspendRun(MeshRunId("job", 1)))
    diary.log_effect(CancelRun(MeshRunId("job", 1), None))
    diary.log_effect(run("job", 1))
    assert told(caplog) == [
        "task.resumed job",
        "task.adopted job from its beginning",
    ]


def test_the_start_of_a_peer_says_who_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Others join it by this address.
    """
    line: dict[str, Any] = {"address": "x", "ui": "x", "health": "x", "workers": []}
    print_ready(StackReady(**line, peer="a", mesh="127.0.0.1:7946"))
    assert "peer       a at 127.0.0.1:7946\n" in capsys.readouterr().out
    print_ready(StackReady(**line))
    assert "peer" not in capsys.readouterr().out


def answers(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    """
    Have the peer on this home give *answer* to everything.
    """
    monkeypatch.setattr(mesh, "_request", lambda what, *limit, **more: answer)


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
    more = {
        "parts": {},
        "report": report,
        "partition_members": ["a", "b"],
        "evidence": [],
    }
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
        self.state_machine = next(each for each in net.cores if each.me.name == "a")

    async def submit(self, mission: Mission, copies: int) -> int:
        return copies


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        ({"ask": "sing"}, "request"),
        ({"ask": "forget"}, "forget.peer"),
        ({"ask": "submit", "mission": {"id": "job"}}, "submit.mission"),
        ([], "request"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_in_one_sentence(
    request_: Any, where: str
) -> None:
    """
    It names the field, and the peer goes on.
    """
    front = ControlApi(Shell(Network("a", seed=1)))  # type: ignore[arg-type]
    with pytest.raises(BadInputError) as refused:
        await front.handle(request_)
    assert where in told_in_one_sentence(refused.value)


async def test_a_task_that_has_ended_is_not_said_to_be_taken_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Who hands the same in again learns how it ended.
    """
    monkeypatch.setattr(control_api, "with_routes", lambda mission: mission)
    net = Network("abc", seed=1)
    net.run(1)
    front = ControlApi(Shell(net))  # type: ignore[arg-type]
    question = {"ask": "submit", "mission": mission("job").model_dump(mode="json")}
    assert "ended" not in await front.handle(question)
    net.submit("a", "job")
    net.run_until(lambda: net.all_finished(["job"]), 30)
    answer = await front.handle(question)
    assert answer["ended"] == "completed"
    answers(monkeypatch, answer)
    monkeypatch.setattr(mission_file, "mission_file", lambda file, name: mission("job"))
    mesh.submit(Path("job.yaml"))
    assert capsys.readouterr().out == "job has ended already: completed\n"
