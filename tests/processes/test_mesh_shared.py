"""
Two peers with one Temporal and one PostgreSQL, as two hosts of one site have them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_mesh import Mesh

from testkit.peers import equal, peers, running, whole
from testkit.postgres import Postgres
from testkit.processes import Home, events, wait_for


@pytest.fixture
def site(home: Home, postgres: Postgres, tmp_path: Path) -> Iterator[Mesh]:
    """
    Both peers, on loopback.
    """
    made = peers(tmp_path, "ab")
    shared = {
        "TEMPORAL_ADDRESS": home.server.address,
        "OUTLAST_DATABASE_URL": postgres.database(),
    }
    for each in made:
        each.extra |= shared
    with running(made):
        yield Mesh(made, None, tmp_path)


@pytest.mark.timeout(120)
def test_a_dead_peers_task_acts_once_where_the_ledger_is_shared(site: Mesh) -> None:
    """
    The other one takes it over with all that was saved, not only what was replicated;
    one attempt ends it, its effect happens once, and the peer that returns agrees.
    """
    assert site.submit("shared", steps=60) == 2
    site.steps("shared", 15)
    lost = site.owner("shared")
    (other,) = site.without(lost)
    lost.kill()

    told = site.completed("shared", [other])
    assert told["owner"] == other.name
    log = site.log("shared")
    assert len(events(log, "end")) == 1
    assert len(events(log, "effect")) == 1
    steps = [each["step"] for each in events(log, "step")]
    assert sorted(set(steps)) == list(range(1, 61))

    lost.start()
    lost.wait_until_ready()
    wait_for(lambda: whole(site.peers) and equal(site.peers), "equal logs")
    assert site.completed("shared", site.peers) == told
