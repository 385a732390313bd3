"""
The command line of outlast-worker.
"""

import asyncio
import json
import logging
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outlast.cli.entrypoint import run_command
from outlast.contracts.errors import BadInputError, StoreUnavailableError
from outlast.contracts.timing_validation import validate_timing
from outlast.dev.locks import ensure_home
from outlast.dev.stack_client import CONNECT_LIMIT_S, temporal_of
from outlast.dev.stack_state import read_stack
from outlast.fleet.health_http import HealthServer
from outlast.fleet.parent import Fleet
from outlast.process.called import as_called
from outlast.process.home import why_readable
from outlast.process.opening import open_store
from outlast.settings import Settings, has_configured_temporal, settings
from outlast.telemetry import setup
from outlast.temporal.connect import require_shared_store
from outlast.temporal.sdk import untested

if TYPE_CHECKING:
    from outlast.mesh.node.membership import PeerConfig
    from outlast.mesh.node.sidecar import Sidecar

DEFAULT_BIND = "127.0.0.1:7946"
MIN_MEMORY_MB = 256  # an idle worker takes about 150

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.command()
def work(
    processes: Annotated[
        int | None, typer.Option(help="agent processes; OUTLAST_PROCESSES, or 2")
    ] = None,
    roles: Annotated[
        str | None,
        typer.Option(help="play only these, as in NAME,NAME; OUTLAST_ROLES"),
    ] = None,
    single_host: Annotated[
        bool,
        typer.Option(
            help="the Temporal is elsewhere, but starters and workers are all on this "
            "host; OUTLAST_SINGLE_HOST"
        ),
    ] = False,
    health_port: Annotated[
        int, typer.Option(help="of /live, /ready, /health, /metrics; 0 for any")
    ] = 0,
    health_host: Annotated[str, typer.Option(help="what it binds to")] = "127.0.0.1",
    watchdog: Annotated[
        bool, typer.Option(help="off only for tests and drills")
    ] = True,
    memory_mb: Annotated[
        int | None, typer.Option(help="cap of one process; OUTLAST_MEMORY_MB, or 2048")
    ] = None,
    peer: Annotated[
        str | None, typer.Option(help="be the peer of this name in a mesh")
    ] = None,
    join: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT of another peer; repeatable")
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option(help=f"where this peer listens for others; {DEFAULT_BIND}"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON line once all poll")
    ] = False,
    # Drains when its standard input ends: whoever has started it is gone.
    tied: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """
    Keep worker processes alive: one for workflows, the others for agents.
    """
    if peer is None and (join or bind is not None):
        raise BadInputError("--bind and --join are for a peer: add --peer NAME")
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    chosen = _settings(processes, memory_mb, single_host, watchdog)
    if roles is not None:
        os.environ["OUTLAST_ROLES"] = roles  # the workers look there
    _require_workable(chosen)
    listen = health_host, health_port
    # A port that is taken is found now, not after a wait for the server.
    HealthServer(dict, *listen).close()
    place = None if peer is None else _peer_config(chosen, peer, bind, join)
    if place is not None and _has_no_temporal(chosen):
        raise typer.Exit(asyncio.run(_with_own_temporal(chosen, as_json)))
    _use_stack_temporal(chosen)
    _require_shareable(chosen)
    setup.start_telemetry("fleet")
    keeping = _run_fleet(chosen, as_json, listen, place, tied)
    raise typer.Exit(asyncio.run(keeping))


def _settings(
    processes: int | None, memory_mb: int | None, single_host: bool, watchdog: bool
) -> Settings:
    """
    Read the settings, the command line's words before those of the environment.
    """
    said = {
        "processes": None if processes is None else _at_least_one(processes),
        "memory_mb": memory_mb,
        "single_host": single_host or None,
        "watchdog": None if watchdog else False,
    }
    told = {name: value for name, value in said.items() if value is not None}
    return settings().model_copy(update=told)


def _peer_config(
    chosen: Settings, peer: str, bind: str | None, join: list[str] | None
) -> "PeerConfig":
    from outlast.cli.peer import peer_config

    return peer_config(chosen, peer, bind or DEFAULT_BIND, tuple(join or ()))


async def _with_own_temporal(chosen: Settings, as_json: bool) -> int:
    from outlast.cli.output import print_ready
    from outlast.cli.peer import with_own_temporal

    def print_json(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    return await with_own_temporal(chosen, print_json if as_json else print_ready)


async def _run_fleet(
    chosen: Settings,
    as_json: bool,
    listen: tuple[str, int],
    place: "PeerConfig | None" = None,
    tied: bool = False,
) -> int:
    logger = logging.getLogger("outlast.fleet")
    if not chosen.fencing:
        logger.warning("fencing.off: for tests only")
    if not chosen.watchdog:
        logger.warning("watchdog.off: a frozen process stays, for tests only")
    if other := untested():
        logger.warning("sdk.untested: %s", other)
    told = _print_ready_json if as_json else _print_ready
    beside = None if place is None else _sidecar(place, chosen)
    if place is None:
        _warn_suspended_runs(chosen)
    if readable := why_readable(ensure_home(chosen)):
        logger.warning("home.readable: %s", readable)
    fleet = Fleet(chosen, lambda fleet: told(fleet, health, beside))
    health = HealthServer(lambda: _snapshot(fleet, beside), *listen)
    if setup.metrics_enabled():
        from outlast.fleet.metrics_export import register_metrics

        register_metrics(fleet.snapshot, fleet.metrics)
    try:
        if beside is not None:
            await beside.start()
        return await fleet.run(tied)
    finally:
        if as_json and (failure := fleet.failure()):
            print(json.dumps({"ready": False, **failure}), flush=True)
        if beside is not None:
            await beside.stop()
        health.close()


def _snapshot(fleet: Fleet, beside: "Sidecar | None") -> dict[str, Any]:
    mesh = {} if beside is None else {"mesh": beside.counts()}
    return {**fleet.snapshot(), **mesh}


def _sidecar(place: "PeerConfig", chosen: Settings) -> "Sidecar":
    from outlast.mesh.node.sidecar import Sidecar

    return Sidecar(place, ensure_home(chosen))


def _warn_suspended_runs(chosen: Settings) -> None:
    """
    Say which runs of the mesh stand still here, for want of a peer that gives the word.
    """
    from outlast.ledger.run_permits import run_permits

    if held := run_permits(ensure_home(chosen)).suspended:
        logging.getLogger("outlast.fleet").warning(
            "mesh.held: %s: held until this home's peer runs again (--peer)",
            ", ".join(held),
        )


def _print_ready_json(
    fleet: Fleet, health: HealthServer, beside: "Sidecar | None"
) -> None:
    peer = {} if beside is None else beside.describe()
    line = {"ready": True, **fleet.describe(), **peer, "health": health.url}
    print(json.dumps(line), flush=True)


def _print_ready(fleet: Fleet, health: HealthServer, beside: "Sidecar | None") -> None:
    pids = ", ".join(f"{child.kind} {child.pid}" for child in fleet.slots)
    peer = f"peer {beside.config.name} at {beside.mesh}; " if beside else ""
    print(f"{peer}workers poll: {pids}; {health.url}; Ctrl-C drains them", flush=True)


def _require_workable(chosen: Settings) -> None:
    """
    Look at all that is known before anything starts.

    :raises BadInputError: in one sentence.
    """
    _require_memory(chosen)
    _require_unresponsive_limit(chosen)
    _require_root(chosen)


def _require_shareable(chosen: Settings) -> None:
    """
    Make sure that this fleet has the store of those whose missions it plays.

    :raises BadInputError: in one sentence.
    """
    require_shared_store(chosen)
    _require_store(chosen)


def _require_memory(chosen: Settings) -> None:
    """
    A cap under what an idle worker needs kills all, one over the machine's kills none.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if chosen.memory_mb and not MIN_MEMORY_MB <= chosen.memory_mb <= machine:
        raise BadInputError(
            f"a memory cap of {chosen.memory_mb} MB is not between {MIN_MEMORY_MB} "
            f"and this machine's {machine}"
        )


def _require_unresponsive_limit(chosen: Settings) -> None:
    try:
        validate_timing(chosen.timing, math.inf)
    except BadInputError as error:
        raise BadInputError(
            f"OUTLAST_UNRESPONSIVE_S={chosen.unresponsive_s:g}: {error}"
        ) from None


def _has_no_temporal(chosen: Settings) -> bool:
    """
    Say whether a peer needs a Temporal of its own: none is named, and nobody runs a
    stack on its home.
    """
    return not (has_configured_temporal() or read_stack(chosen.home.resolve()).owned)


def _use_stack_temporal(chosen: Settings) -> None:
    """
    Choose the Temporal to work for, also for the workers. Where the environment names
    none it is the stack that runs on this home, or is starting.

    :raises UnavailableError: when there is neither.
    """
    finding = temporal_of(chosen, _print_note, CONNECT_LIMIT_S)
    os.environ["TEMPORAL_ADDRESS"] = asyncio.run(finding)


def _print_note(text: str) -> None:
    logging.getLogger("outlast.fleet").info(as_called(text))


def _at_least_one(processes: int) -> int:
    if not 1 <= processes <= 64:
        raise BadInputError(f"--processes {processes} is not between 1 and 64")
    return processes


def _require_root(chosen: Settings) -> None:
    root = chosen.output_root
    if root is not None and not root.is_dir():
        raise BadInputError(f"OUTLAST_OUTPUT_ROOT={root} is not a folder")


def _require_store(chosen: Settings) -> None:
    """
    Say at once that a database refuses us. A file is the workers' own to open.
    """
    if chosen.database_url is not None:
        with suppress(StoreUnavailableError):  # the workers wait for it
            open_store(chosen).close()


def main() -> None:
    """
    Run outlast-worker.
    """
    run_command(app)
