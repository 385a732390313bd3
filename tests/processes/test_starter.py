"""
The starter as a user meets it: from an empty home, with nothing running.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from outlast.contracts.ids import MISSIONS_QUEUE
from outlast.store.schema import missions
from outlast.temporal.connect import connect
from testkit.proc import family
from testkit.processes import (
    PROJECT_FOLDER,
    CommandResult,
    Home,
    events,
    mission,
    wait_for,
)

HANDBOOK = """# Handbook

The kettle in the north office boils at 96 degrees.
Visitors sign the green book at the front desk.

## Keys

The spare key of the archive hangs behind the reception.
"""


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "handbook.md").write_text(HANDBOOK)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 this is none")
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TEMPORAL_", "OUTLAST_"))
    }
    return {**plain, "OUTLAST_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}


def starter(
    environment: dict[str, str], *args: str, limit_s: float = 90
) -> CommandResult:
    ended = subprocess.run(
        [sys.executable, "starter.py", *args],
        cwd=PROJECT_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        umask=0,
    )
    return CommandResult(ended.returncode, ended.stdout, ended.stderr)


def begin(environment: dict[str, str], *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "starter.py", *args],
        cwd=PROJECT_FOLDER,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def open_to_others(home: Path) -> list[Path]:
    return [each for each in (home, *home.rglob("*")) if each.stat().st_mode & 0o077]


def processes_of(home: str) -> list[str]:
    """
    List the live processes that were given *home* as their environment.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            given = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"OUTLAST_HOME={home}\0".encode() in given + b"\0" and command:
            found.append(command)
    return found


def test_a_question_is_answered_from_the_documents(
    environment: dict[str, str], documents: Path
) -> None:
    """
    From an empty home: a cited answer whose quotations stand word for word on their
    lines, a gap for what could not be read, nothing left running, and nothing in the
    home that others may read.
    """
    asked = starter(
        environment,
        *("ask", "Where does the spare key of the archive hang?"),
        *("--documents", str(documents), "--embedded", "--json"),
    )

    assert asked.code == 0, asked.err
    answer = asked.json
    assert answer["status"] == "completed"
    assert "behind the reception" in answer["answer"]
    lines = HANDBOOK.splitlines()
    for each in answer["citations"]:
        assert each["document"] == "handbook.md"
        assert each["verified"] is True
        assert lines[each["line"] - 1] == each["quote"]
    assert [gap["document"] for gap in answer["gaps"]] == ["broken.pdf"]
    assert "behind the reception" in Path(answer["report"]).read_text()
    assert processes_of(environment["OUTLAST_HOME"]) == []
    assert open_to_others(Path(environment["OUTLAST_HOME"])) == []

    told = starter(environment, "explain", answer["mission"])
    assert told.code == 0
    assert "librarian" in told.out
    assert starter(environment, "audit", "--json").json["violations"] == []


def test_what_the_documents_do_not_say_is_not_invented(
    environment: dict[str, str], documents: Path
) -> None:
    """
    A question without an answer is told so, without citations.
    """
    asked = starter(
        environment,
        *("ask", "Who won the cycling championship in Lisbon?"),
        *("--documents", str(documents), "--embedded", "--json"),
    )

    assert asked.code == 0, asked.err
    assert "do not answer" in asked.json["answer"]
    assert asked.json["citations"] == []


def test_an_interrupted_mission_is_kept_and_goes_on(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """
    Ctrl-C leaves nothing running and loses nothing: the same mission goes on where
    it was.
    """
    log = tmp_path / "log.jsonl"
    script = {"steps": 8, "step_seconds": 0.3, "log": str(log), "effect": "kept"}
    path = mission(
        tmp_path / "m.yaml", [{"id": "t", "role": "rehearse", "input": script}]
    )
    args = ["run", path, "--id", "kept", "--embedded", "--json"]
    first = begin(environment, *args)
    wait_for(lambda: len(events(log, "step")) >= 3, "three steps")
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=30)

    assert first.returncode == 130
    assert "kept" in err
    assert processes_of(environment["OUTLAST_HOME"]) == []

    again = starter(environment, *args)
    assert again.code == 0, again.err
    steps = [each["step"] for each in events(log, "step")]
    assert steps == list(range(1, 9)), "no step may be lost or repeated"
    assert len(events(log, "effect")) == 1

    joined = starter(environment, *args)
    assert joined.json["tasks"] == again.json["tasks"]
    assert len(events(log, "end")) == 1


def test_dev_serves_whoever_comes(environment: dict[str, str], tmp_path: Path) -> None:
    """
    One JSON line once workers poll; a second start uses the first; both end by
    SIGTERM and leave nothing behind.
    """
    first = begin(environment, "dev", "--json", "--processes", "1")
    assert first.stdout is not None
    line = json.loads(first.stdout.readline())
    assert line["ready"] is True
    assert {each["kind"] for each in line["workers"]} == {"workflows", "agents"}
    second = begin(environment, "dev", "--json")
    assert second.stdout is not None
    assert json.loads(second.stdout.readline()) == line
    path = mission(
        tmp_path / "m.yaml",
        [{"id": "t", "role": "rehearse", "input": {"steps": 2}}],
    )
    ran = starter(environment, "run", path, "--embedded", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["ui"].startswith(line["ui"])
    assert first.poll() is None, "it was not ours to stop"
    second.terminate()
    assert second.wait(timeout=20) == 0
    first.terminate()
    assert first.wait(timeout=20) == 0
    assert processes_of(environment["OUTLAST_HOME"]) == []


def test_dev_outlasts_one_dead_fleet_after_the_other(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """
    Killed while it works, and its successor before it does: the server stays, and a
    third fleet does what was asked for meanwhile.
    """
    dev = begin(environment, "dev", "--json", "--processes", "1")
    assert dev.stdout is not None
    first = json.loads(dev.stdout.readline())["fleet"]
    path = mission(tmp_path / "m.yaml", [one_task()])

    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: fleets(dev.pid) - {first}, "the next fleet").pop()
    os.kill(second, signal.SIGKILL)
    ran = starter(environment, "run", path, "--embedded", "--json")
    assert ran.code == 0, ran.err

    assert dev.poll() is None
    dev.terminate()
    assert dev.wait(timeout=20) == 0
    assert processes_of(environment["OUTLAST_HOME"]) == []


def fleets(dev: int) -> set[int]:
    """
    Tell the fleets' parents among what *dev* has started.
    """
    found = set()
    for pid in family(dev):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"outlast.worker" in command:
                found.add(pid)
    return found


def one_task(**more: Any) -> dict[str, Any]:
    return {"id": "t", "role": "rehearse", "input": {"steps": 1}, **more}


def bad_missions() -> dict[str, str]:
    cycle = [one_task(needs=["u"]), {**one_task(needs=["t"]), "id": "u"}]
    many = [{**one_task(), "id": f"t{number}"} for number in range(101)]
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\ngoal: *b\n"
    return {
        "cycle": json.dumps({"goal": "g", "tasks": cycle}),
        "unknown role": json.dumps({"goal": "g", "tasks": [one_task(role="who")]}),
        "unknown need": json.dumps({"goal": "g", "tasks": [one_task(needs=["x"])]}),
        "duplicate": json.dumps({"goal": "g", "tasks": [one_task(), one_task()]}),
        "over a cap": json.dumps({"goal": "g", "tasks": many}),
        "unfit input": json.dumps(
            {"goal": "g", "tasks": [one_task(input={"step": 1})]}
        ),
        "wrong type": json.dumps({"goal": "g", "tasks": "none"}),
        "bomb": bomb,
        "no yaml": "goal: [",
        "empty": "",
    }


@pytest.mark.parametrize("kind", bad_missions())
def test_a_bad_mission_gets_one_sentence_and_starts_nothing(
    environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    """
    Exit 2, one line, no home made, no process started.
    """
    path = tmp_path / "m.yaml"
    path.write_text(bad_missions()[kind])
    refused(starter(environment, "run", str(path), "--embedded"))
    assert not Path(environment["OUTLAST_HOME"]).exists()


def refused(said: CommandResult) -> None:
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 1, said.err


@pytest.mark.parametrize(
    "args",
    [
        ("ask", "why?", "--documents", "nowhere"),
        ("ask", "why?", "--documents", "README.md"),
        ("ask", "   ", "--documents", "examples"),
        ("run", "nowhere.yaml"),
        ("dev", "--processes", "0"),
        ("dev", "--port", "70000"),
        ("dev", "--processes", "many"),
        ("status", "nobody"),
        ("explain", "nobody"),
        ("nonsense",),
    ],
)
def test_bad_arguments_get_one_sentence(
    environment: dict[str, str], args: tuple[str, ...]
) -> None:
    """
    Whatever is wrong, it is said in one line and with exit code 2.
    """
    refused(starter(environment, *args))


def test_an_empty_folder_is_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """
    A folder without documents is named before anything starts.
    """
    folder = tmp_path / "empty"
    folder.mkdir()
    said = starter(environment, "ask", "why?", "--documents", str(folder), "--embedded")
    refused(said)
    assert "no document" in said.err


def test_no_temporal_at_the_address_says_what_to_do(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """
    A missing server is named with its address and the ways out.
    """
    path = mission(tmp_path / "m.yaml", [one_task()])
    environment["TEMPORAL_ADDRESS"] = "127.0.0.1:1"
    said = starter(environment, "run", path)
    refused(said)
    assert "127.0.0.1:1" in said.err
    assert "starter.py dev" in said.err


def test_a_port_in_use_is_refused(environment: dict[str, str]) -> None:
    """
    A port that was asked for and is taken is not silently replaced.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = starter(environment, "dev", "--port", port)
    refused(said)
    assert port in said.err


def test_the_same_id_with_other_content_is_refused(home: Home, tmp_path: Path) -> None:
    """
    An id stands for one content, for ever.
    """
    home.fleet(processes=1)
    first = mission(tmp_path / "a.yaml", [one_task()], id="once")
    other = mission(tmp_path / "b.yaml", [one_task(input={"steps": 2})], id="once")

    assert home.starter("run", first, "--json").code == 0
    assert home.starter("run", first, "--json").json["status"] == "completed"
    refused(home.starter("run", other, "--json"))


def test_agents_that_cannot_load_are_named(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """
    A broken module of the user's stops before anything starts.
    """
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name\n")
    environment["OUTLAST_AGENTS"] = str(broken)
    path = mission(tmp_path / "m.yaml", [one_task()])
    said = starter(environment, "run", path, "--embedded")
    refused(said)
    assert "nothing_of_this_name" in said.err


def test_a_wedged_mission_is_named_with_its_cause(home: Home) -> None:
    """
    A workflow task that fails again and again looks like silence; status and doctor
    say what it is.
    """
    home.fleet(processes=1)

    async def wedge() -> None:
        client = await connect(home.server.address)
        # As a newer release has written it: no worker here reads that.
        newer = {"id": "stuck", "store": "theirs", "schema_number": 99}
        await client.start_workflow(
            "Supervisor", newer, id="stuck", task_queue=MISSIONS_QUEUE
        )

    asyncio.run(wedge())
    _enter(home, "stuck")

    told = wait_for(
        lambda: home.starter("status", "stuck", "--json").json["stuck"],
        "the wedge to be noticed",
    )
    assert "failed" in told
    doctor = home.starter("doctor")
    assert doctor.code == 1
    assert "stuck" in doctor.out


def _enter(home: Home, name: str) -> None:
    """
    Write an accepted mission into the ledger, as the starter would have.
    """
    import sqlalchemy as sa

    from outlast.store.database import Store

    store = Store(home.path / "store.db")
    with store.write() as connection:
        connection.execute(
            sa.insert(missions).values(
                id=name,
                tenant="default",
                digest="d",
                goal="g",
                state="accepted",
                accepted_at=0.0,
            )
        )
    store.close()
