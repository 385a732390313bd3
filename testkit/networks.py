"""
Networks for peers: namespaces on one machine that can be split into parts and healed.
"""

import json
import os
import shutil
import subprocess
from base64 import b64encode
from dataclasses import dataclass, field


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
