"""
The command line of outlast-worker.
"""

import asyncio
import logging
import math
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.dev import announcer, require_processes
from outlast.cli.entrypoint import run_command
from outlast.cli.run_fleet import run_fleet
from outlast.contracts.errors import BadInputError, StoreUnavailableError
from outlast.contracts.timing_validation import validate_timing
from outlast.dev.stack_client import CONNECT_LIMIT_S, temporal_of
from outlast.dev.stack_state import read_stack
from outlast.fleet.health_http import HealthServer
from outlast.process.called import as_called
from outlast.process.opening import open_store
from outlast.settings import Settings, has_configured_temporal, settings
from outlast.telemetry import setup
from outlast.temporal.connect import require_shared_store

if TYPE_CHECKING:
    from outlast.mesh.node.membership import PeerConfig

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
    # Drains when its standard input ends: the process that started it is gone.
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
    _require_memory(chosen)
    _require_unresponsive_limit(chosen)
    _require_root(chosen)
    listen = health_host, health_port
    # A port that is taken is found now, not after a wait for the server.
    HealthServer(dict, *listen).close()
    place = None if peer is None else _peer_config(chosen, peer, bind, join)
    if place is not None and _has_no_temporal(chosen):
        from outlast.cli.peer import with_own_temporal

        raise typer.Exit(asyncio.run(with_own_temporal(chosen, announcer(as_json))))
    _use_stack_temporal(chosen)
    require_shared_store(chosen)
    _require_store(chosen)
    setup.start_telemetry("fleet")
    raise typer.Exit(asyncio.run(run_fleet(chosen, as_json, listen, place, tied)))


def _settings(
    processes: int | None, memory_mb: int | None, single_host: bool, watchdog: bool
) -> Settings:
    """
    Read the settings; the command line's win over those of the environment.

    :raises BadInputError: when so many processes cannot be started.
    """
    require_processes(processes)
    said = {
        "processes": processes,
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


def _require_memory(chosen: Settings) -> None:
    """
    Refuse a cap that would kill every worker, or that the machine has no memory for.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    if chosen.memory_mb and not MIN_MEMORY_MB <= chosen.memory_mb <= machine:
        raise BadInputError(
            f"a memory cap of {chosen.memory_mb} MB is not between {MIN_MEMORY_MB} "
            f"and this machine's {machine}: choose another --memory-mb"
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


def _require_root(chosen: Settings) -> None:
    root = chosen.output_root
    if root is not None and not root.is_dir():
        raise BadInputError(
            f"OUTLAST_OUTPUT_ROOT={root} is not a folder: make it, or name another"
        )


def _require_store(chosen: Settings) -> None:
    """
    Say at once that a database refuses us. A file is the workers' own to open.
    """
    if chosen.database_url is not None:
        with suppress(StoreUnavailableError):  # the workers wait for it
            open_store(chosen).close()


def main() -> None:
    run_command(app)
