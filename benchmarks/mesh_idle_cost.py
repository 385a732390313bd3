"""
What a mesh costs while nothing is asked for: at the peers' cables, in their servers.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.result_rows import ResultRow
from outlast.contracts.mesh_timing import SWIM
from outlast.dev.server_command import find_cli
from outlast.mesh.node.membership import PeerConfig
from outlast.mesh.node.sidecar_main import sidecar_command
from testkit.networks import Net
from testkit.peers import Peer, peers, whole
from testkit.processes import PROJECT_FOLDER, wait_for

COUNTS = (3, 5, 10)
# Two rounds of what peers compare least often: all that they know of the members.
QUIET_S = 2 * SWIM.push_pull_s
FLAT_BOUND = 1.15


def costs(folder: Path) -> Iterator[ResultRow]:
    found = []
    for count in COUNTS:
        (folder / str(count)).mkdir()
        found.append(cost(count, folder / str(count)))
        yield from found[-1]
    yield from growth(found[0], found[-1])


def cost(count: int, folder: Path) -> list[ResultRow]:
    """
    Count what the gossip processes of *count* peers say in quiet, at their cables.
    """
    names = "abcdefghij"[:count]
    with Net(names) as net, gossips(peers(folder, names, net)) as made:
        wait_for(lambda: whole(made), "a whole mesh", 120)
        time.sleep(10)  # what was learned has been told
        before = [net.sent(each) for each in names]
        time.sleep(QUIET_S)
        after = [net.sent(each) for each in names]
    pairs = list(zip(before, after, strict=True))
    packets = [(late[0] - early[0]) / QUIET_S for early, late in pairs]
    sent = [(late[1] - early[1]) / QUIET_S for early, late in pairs]
    return [
        ResultRow(
            f"quiet, {count} peers: packets a peer sends", packets, None, "a second"
        ),
        ResultRow(f"quiet, {count} peers: bytes a peer sends", sent, None, "a second"),
    ]


def growth(few: list[ResultRow], many: list[ResultRow]) -> list[ResultRow]:
    found = []
    for what, small, large in zip(("packets", "bytes"), few, many, strict=True):
        ratio = statistics.median(large.values) / statistics.median(small.values)
        told = f"quiet, {len(large.values)} peers to {len(small.values)}: {what}"
        found.append(ResultRow(told, [ratio], FLAT_BOUND, "times"))
    return found


@contextmanager
def gossips(made: list[Peer]) -> Iterator[list[Peer]]:
    """
    The gossip processes of peers alone, without their fleets and servers.
    """
    processes = []
    for each in made:
        each.home.mkdir(exist_ok=True)
        place = PeerConfig(each.name, each.bind, tuple(each.seeds))
        command = [*each.inside, *sidecar_command(place)]
        with (each.home / "peer.log").open("ab") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=PROJECT_FOLDER,
                    env={**each.environment, "TEMPORAL_ADDRESS": "127.0.0.1:1"},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        yield made
    finally:
        for process in processes:
            process.kill()
            process.wait()


def history(peer: Peer) -> int:
    """
    Count the workflows and their events on the server of *peer*.
    """
    address = json.loads((peer.home / "stack.json").read_text())["address"]
    listing = ["workflow", "list", "--address", address, "--output", "json"]
    told = subprocess.run(
        [*peer.inside, find_cli(), *listing, "--limit", "10000"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = json.loads(told or "[]")
    return len(found) + sum(int(each.get("historyLength", 0)) for each in found)
