"""
Run a fleet, and the sidecar beside it where it is a peer, and announce them.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from outlast.cli.dev import print_json_line
from outlast.dev.locks import ensure_home
from outlast.dev.stack_state import FleetLine
from outlast.fleet.health_http import HealthServer
from outlast.fleet.parent import Fleet
from outlast.ledger.run_permits import run_permits
from outlast.process.home import why_readable
from outlast.settings import Settings
from outlast.telemetry import setup
from outlast.temporal.sdk import untested

if TYPE_CHECKING:
    from outlast.mesh.node.membership import PeerConfig
    from outlast.mesh.node.sidecar import Sidecar

logger = logging.getLogger("outlast.fleet")


async def run_fleet(
    chosen: Settings,
    as_json: bool,
    listen: tuple[str, int],
    place: "PeerConfig | None" = None,
    tied: bool = False,
) -> int:
    """
    Run a fleet until a signal or an error stops it; returns its exit code.

    :param listen: host and port of its health pages.
    :param place: of the peer in a mesh that it is; None outside meshes.
    :param tied: drain when standard input ends: the process that started it is gone.
    """
    for warning in _warnings(chosen, is_peer=place is not None):
        logger.warning(warning)
    told = _print_ready_json if as_json else _print_ready
    beside = None if place is None else _sidecar(place, chosen)
    fleet = Fleet(chosen, lambda fleet: told(fleet, health, beside))
    health = HealthServer(lambda: _snapshot(fleet, beside), *listen)
    if setup.metrics_enabled():
        from outlast.fleet.metrics_export import register_metrics

        register_metrics(fleet.snapshot, fleet.state.metrics)
    try:
        if beside is not None:
            await beside.start()
        return await fleet.run(tied)
    finally:
        if as_json and (failure := fleet.state.failure()):
            line = FleetLine(ready=False, **failure)
            print_json_line(line.model_dump(exclude_defaults=True))
        if beside is not None:
            await beside.stop()
        health.close()


def _snapshot(fleet: Fleet, beside: "Sidecar | None") -> dict[str, Any]:
    mesh = {} if beside is None else {"mesh": beside.counts()}
    return {**fleet.snapshot(), **mesh}


def _sidecar(place: "PeerConfig", chosen: Settings) -> "Sidecar":
    from outlast.mesh.node.sidecar import Sidecar

    return Sidecar(place, ensure_home(chosen))


def _warnings(chosen: Settings, is_peer: bool) -> Iterator[str]:
    if not chosen.fencing:
        yield "fencing.off: for tests only"
    if not chosen.watchdog:
        yield "watchdog.off: a frozen process stays, for tests only"
    if other := untested():
        yield f"sdk.untested: {other}"
    home = ensure_home(chosen)
    if not is_peer and (suspended := run_permits(home).suspended):
        yield (
            f"mesh.held: {', '.join(suspended)}: suspended until this home's peer runs "
            "again (--peer)"
        )
    if readable := why_readable(home):
        yield f"home.readable: {readable}"


def _print_ready_json(
    fleet: Fleet, health: HealthServer, beside: "Sidecar | None"
) -> None:
    peer = {} if beside is None else beside.describe()
    line = FleetLine(ready=True, health=health.url, **fleet.describe(), **peer)
    print_json_line(line.model_dump(exclude_none=True))


def _print_ready(fleet: Fleet, health: HealthServer, beside: "Sidecar | None") -> None:
    pids = ", ".join(f"{slot.kind} {slot.pid}" for slot in fleet.slots)
    peer = f"peer {beside.config.name} at {beside.mesh}; " if beside else ""
    print(f"{peer}workers poll: {pids}; {health.url}; Ctrl-C drains them", flush=True)
