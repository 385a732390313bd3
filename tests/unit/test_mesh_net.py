"""
The network that meshes are tested on: whole, split and healed, and nobody else's.
"""

import json
import subprocess
import sys

import pytest

from testkit.networks import Net, can_split

pytestmark = pytest.mark.skipif(not can_split(), reason="no networks can be made here")

HEAR = "import socket; s = socket.create_server(({!r}, {})); print(flush=True)\n"
HEAR += "while True: s.accept()"
CALL = "import socket; socket.create_connection(({!r}, {}), timeout=0.3)"


def bridges() -> list[str]:
    """
    List the bridges that the host's own firewall filters.
    """
    command = ["ip", "-json", "link", "show", "type", "bridge"]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    return [each["ifname"] for each in json.loads(told or "[]") if each]


def test_peers_reach_each_other_beside_the_hosts_firewall() -> None:
    """
    Docker has the host filter what its bridges carry, so none of ours is the host's.
    """
    before = bridges()
    with Net("ab") as net:
        host, port = net.address("b").split(":")
        python = [sys.executable, "-S", "-E", "-c"]
        hear = [*net.inside("b"), *python, HEAR.format(host, port)]
        call = [*net.inside("a"), *python, CALL.format(host, port)]

        def reached() -> bool:
            return (
                subprocess.run(call, capture_output=True, check=False).returncode == 0
            )

        with subprocess.Popen(hear, stdout=subprocess.PIPE) as hearing:
            assert hearing.stdout is not None
            hearing.stdout.readline()
            try:
                assert bridges() == before
                assert reached()
                assert net.sent("a")[0] > 0
                net.split("a", "b")
                assert not reached()
                net.heal()
                assert reached()
            finally:
                hearing.kill()
    left = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True)
    assert net.tag not in left.stdout
