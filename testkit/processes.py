"""
Real processes to break: a development server, fleets of workers, the starter.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.dev.ports import choose_ports
from outlast.dev.server import DevServer

PROJECT_FOLDER = Path(__file__).parents[1]
PROCESS_LIMIT_S = 60.0


def restore_interrupts() -> None:
    """
    Have Ctrl-C end what is started from here on, also where a shell has started us in
    the background and SIGINT is ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Home:
    """
    One OUTLAST_HOME with its own server and fleets; everything ends with it.
    """

    path: Path
    server: DevServer
    extra: dict[str, str] = field(default_factory=dict)
    fleets: list["FleetProcess"] = field(default_factory=list)
    code: Path = PROJECT_FOLDER  # whose programs are started from now on

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OUTLAST_HOME": str(self.path),
            "TEMPORAL_ADDRESS": self.server.address,
            **self.extra,
        }

    def start_server(self) -> None:
        asyncio.run(self.server.start())

    def kill_server(self) -> None:
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()

    @contextmanager
    def server_frozen(self) -> Iterator[None]:
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.server.process.send_signal(signal.SIGCONT)

    def fleet(self, processes: int = 2, *options: str) -> "FleetProcess":
        command = [sys.executable, "worker.py", "--json", *options]
        command += ["--processes", str(processes)]
        process = subprocess.Popen(
            command,
            cwd=self.code,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        started = FleetProcess(process, json.loads(process.stdout.readline()))
        self.fleets.append(started)
        return started

    def starter(self, *args: str, limit_s: float = PROCESS_LIMIT_S) -> "CommandResult":
        return self.run("starter.py", *args, limit_s=limit_s)

    def run(self, *command: str, limit_s: float = PROCESS_LIMIT_S) -> "CommandResult":
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=self.code,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        return CommandResult(ended.returncode, ended.stdout, ended.stderr)

    def begin(self, *args: str) -> subprocess.Popen[str]:
        return self.start("starter.py", *args)

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.code,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        for fleet in self.fleets:
            fleet.stop()
        self.server.stop()


@contextmanager
def running_home(path: Path, **extra: str) -> Iterator[Home]:
    """
    A home with a server, at *path*, and no fleet yet.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    home = Home(path, DevServer(path, *choose_ports(None, None)), extra)
    home.start_server()
    try:
        yield home
    finally:
        home.close()


@contextmanager
def temporary_home(**extra: str) -> Iterator[Home]:
    """
    A home with a server, which is gone afterwards.
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        running_home(Path(folder), **extra) as home,
    ):
        yield home


@dataclass
class CommandResult:
    """
    What a command said, and its exit code.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class FleetProcess:
    """
    A running fleet.
    """

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    def pids(self, kind: str) -> list[int]:
        """
        List the polling worker processes of *kind*, restarted ones too.
        """
        return [
            each["pid"]
            for each in self.health()["processes"]
            if each["kind"] == kind and each["state"] == "polling"
        ]

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.ready["health"], timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def kill_one(self, dice: random.Random, *besides: str) -> int:
        """
        SIGKILL one agent process, or one of the kinds *besides*, once there is one.
        """
        agents = wait_for(lambda: self.pids("agents"), "an agent process")
        pids = [*agents, *(pid for kind in besides for pid in self.pids(kind))]
        pid: int = dice.choice(pids)
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=20)


# What was read of each log: parsing it anew at every look would take the very
# processor that the processes under test need.
_READ: dict[Path, tuple[int, list[dict[str, Any]]]] = {}


def rehearsal(task: str, log: Path, *needs: str, **script: Any) -> dict[str, Any]:
    """
    A task of the scripted agent, which writes its events to *log*.
    """
    given = {"log": str(log), **script}
    return {"id": task, "role": "rehearse", "input": given, "needs": list(needs)}


def mission(path: Path, tasks: list[dict[str, Any]], **more: Any) -> str:
    path.write_text(json.dumps({"goal": "rehearse", "tasks": tasks, **more}))
    return str(path)


def events(log: Path, *kinds: str) -> list[dict[str, Any]]:
    offset, found = _READ.get(log, (0, []))
    if log.exists():
        with log.open("rb") as file:
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]  # a line may be half written
        found += [json.loads(line) for line in whole.splitlines()]
        _READ[log] = (offset + len(whole) + bool(whole), found)
    return [line for line in found if line["event"] in kinds]


def next_event(
    log: Path,
    kind: str,
    after: float,
    what: str,
    task: str | None = None,
    limit_s: float = PROCESS_LIMIT_S,
) -> dict[str, Any]:
    """
    Wait for the first event of *kind* that is later than *after*, of *task* if named.
    """

    def found() -> dict[str, Any] | None:
        later = (each for each in events(log, kind) if each["at"] > after)
        return next((e for e in later if task in (None, e["task"])), None)

    event: dict[str, Any] = wait_for(found, what, limit_s)
    return event


def wait_for(look: Any, what: str, limit_s: float = PROCESS_LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {limit_s:g} s in vain for {what}")


@contextmanager
def every(seconds: float, process: subprocess.Popen[str]) -> Iterator[Iterator[int]]:
    """
    Tick every *seconds* for as long as *process* runs.
    """

    def ticks() -> Iterator[int]:
        count = 0
        while True:
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                count += 1
                yield count
            else:
                return

    yield ticks()
