"""
Peers to break: each a whole fleet with its own home, server and gossip process.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.contracts.errors import OutlastError
from outlast.dev.server import free_port
from outlast.mesh.node.control_socket import send_request
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
        """
        Start it, with one agent process.
        """
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


def peers(folder: Path, names: str, net: "Net | None" = None) -> list[Peer]:
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


def can_split() -> bool:
    """
    Say whether networks can be made here: as root on Linux, with iproute2.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"ol{os.getpid()}"
    if not _can("netns", "add", probe):
        return False
    made = _can("-n", probe, "link", "add", "s", "type", "bridge")
    _ip("netns", "del", probe)
    return made


@dataclass
class Net:
    """
    A network of namespaces, one a peer, that can be split into parts and healed.

    Each peer hangs on a cable; a part of a split is a switch of its own. The switches
    are in a namespace, too: where docker is, the host's firewall filters what its own
    bridges carry.
    """

    names: str
    key: str = field(default_factory=lambda: b64encode(os.urandom(32)).decode())
    tag: str = field(default_factory=lambda: f"o{os.getpid() % 100_000:x}")

    def __enter__(self) -> "Net":
        _ip("netns", "add", self._hub)
        for part in range(len(self.names)):
            self._at_hub("add", self._switch(part), "type", "bridge")
            self._at_hub("set", self._switch(part), "up")
        for name in self.names:
            self._plug(name)
        return self

    def __exit__(self, *_: object) -> None:
        for space in (*map(self._space, self.names), self._hub):
            _ip("netns", "del", space)

    def inside(self, name: str) -> list[str]:
        """
        Say by which command a program runs where *name* is.
        """
        return ["ip", "netns", "exec", self._space(name)]

    def address(self, name: str) -> str:
        return f"10.213.0.{self.names.index(name) + 1}:7946"

    def split(self, *parts: str) -> None:
        for number, part in enumerate(parts):
            for name in part:
                self._at_hub("set", self._cable(name), "master", self._switch(number))

    def heal(self) -> None:
        self.split(self.names)

    def sent(self, name: str) -> tuple[int, int]:
        """
        Count the packets and bytes that *name* has sent, at its cable's other end.
        """
        command = ["-n", self._hub, "-json", "-s", "link", "show", self._cable(name)]
        counted = json.loads(_ip(*command))[0]["stats64"]["rx"]
        return counted["packets"], counted["bytes"]

    def _plug(self, name: str) -> None:
        space, cable = self._space(name), self._cable(name)
        _ip("netns", "add", space)
        self._at_hub("add", cable, "type", "veth", "peer", "name", "e", "netns", space)
        self._at_hub("set", cable, "master", self._switch(0), "up")
        address = self.address(name).split(":")[0]
        for command in (
            ["addr", "add", f"{address}/24", "dev", "e"],
            ["link", "set", "e", "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", space, *command)

    def _at_hub(self, *command: str) -> None:
        _ip("-n", self._hub, "link", *command)

    @property
    def _hub(self) -> str:
        return f"{self.tag}hub"

    def _space(self, name: str) -> str:
        return f"{self.tag}n{name}"

    def _cable(self, name: str) -> str:
        return f"c{name}"

    def _switch(self, part: int) -> str:
        return f"s{part}"


def _ip(*command: str) -> bytes:
    return subprocess.run(["ip", *command], check=True, capture_output=True).stdout


def _can(*command: str) -> bool:
    tried = subprocess.run(["ip", *command], check=False, capture_output=True)
    return tried.returncode == 0


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
