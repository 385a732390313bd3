"""
Peers to break: each a whole fleet with its own home, server and gossip process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.contracts.errors import OutlastError
from outlast.dev.ports import free_port
from outlast.mesh.node.control_socket import send_request
from testkit.networks import Net
from testkit.proc import command_of, family
from testkit.processes import PROJECT_FOLDER, wait_for


@dataclass
class Peer:
    """
    One peer; *inside* is the command that its programs are run by, as for a namespace.
    """

    name: str
    home: Path
    bind: str
    seeds: list[str]
    extra: dict[str, str] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """
        What its programs are told; no Temporal, so it runs its own.
        """
        ours = {k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")}
        return {**ours, "OUTLAST_HOME": str(self.home), **self.extra}

    def start(self) -> None:
        self.home.mkdir(exist_ok=True)
        command = [*self.inside, sys.executable, "worker.py", "--json"]
        command += ["--processes", "1", "--roles", "rehearse"]
        command += ["--peer", self.name, "--bind", self.bind]
        command += [part for each in self.seeds for part in ("--join", each)]
        with (self.home / "peer.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT_FOLDER,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_until_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def ask(self, what: str, **more: Any) -> Any:
        """
        Ask its gossip process; None when that does not answer.
        """
        with suppress(OutlastError):
            return send_request(self.home, {"ask": what, **more})
        return None

    def sees(self) -> set[str]:
        told = self.ask("members") or {"members": []}
        return {each["peer"] for each in told["members"] if each["state"] != "away"}

    def tree(self) -> list[int]:
        return [] if self.process is None else family(self.process.pid)

    def kill_gossip(self) -> None:
        module = "outlast.mesh.node.sidecar_main"
        gossips = [pid for pid in self.tree() if module in command_of(pid)]
        assert gossips, f"peer {self.name} has no gossip process"
        _signal(gossips, signal.SIGKILL)

    def kill(self) -> None:
        pids = self.tree()
        _signal(pids, signal.SIGSTOP)  # so that no process answers while others die
        _signal(pids, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        pids = self.tree()
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)


def peers(folder: Path, names: str, net: Net | None = None) -> list[Peer]:
    """
    Make a peer for each of *names*, all of which have the first three as seeds: on
    loopback, or each in its own part of *net*.
    """
    loopback = {name: f"127.0.0.1:{free_port()}" for name in names}
    binds = loopback if net is None else {name: net.address(name) for name in names}
    made = [
        Peer(
            name=name,
            home=folder / name,
            bind=binds[name],
            seeds=[binds[each] for each in names[:3] if each != name],
        )
        for name in names
    ]
    if net is not None:
        for each in made:
            each.inside = net.inside(each.name)
            each.extra = {"OUTLAST_MESH_KEY": net.key}
    return made


@contextmanager
def running(made: list[Peer]) -> Iterator[list[Peer]]:
    """
    Have them run and all see each other; they are gone after it.
    """
    try:
        for each in made:
            each.start()
        for each in made:
            each.wait_until_ready()
        wait_for(lambda: whole(made), "a whole mesh")
        yield made
    finally:
        for each in made:
            each.kill()


def whole(made: list[Peer]) -> bool:
    names = {each.name for each in made}
    return all(
        {one["peer"] for one in told["members"] if one["state"] == "ready"} == names
        for told in (each.ask("members") or {"members": []} for each in made)
    )


def heads(made: list[Peer]) -> list[dict[str, int]]:
    return [(each.ask("counts") or {"high_water": {}})["high_water"] for each in made]


def equal(made: list[Peer]) -> bool:
    first, *others = heads(made)
    return bool(first) and all(each == first for each in others)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
