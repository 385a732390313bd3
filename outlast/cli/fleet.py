"""
The command line of worker.py.
"""

import asyncio
import json
import logging
from typing import Annotated

import typer

from outlast.cli.edge import run_command
from outlast.contracts.errors import BadInputError
from outlast.fleet.parent import Fleet
from outlast.runtime.settings import Settings, settings

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.command()
def work(
    processes: Annotated[
        int | None, typer.Option(help="agent processes; OUTLAST_PROCESSES, or 2")
    ] = None,
    single_host: Annotated[
        bool,
        typer.Option(
            help="the Temporal is elsewhere, but all workers are on this host"
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON line once all poll")
    ] = False,
) -> None:
    """
    Keep worker processes alive: one for workflows, the others for agents.
    """
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    chosen = settings()
    if processes is not None:
        chosen = chosen.model_copy(update={"processes": _at_least_one(processes)})
    _refuse_two_hosts(single_host)
    raise typer.Exit(asyncio.run(_keep(chosen, as_json)))


async def _keep(chosen: Settings, as_json: bool) -> int:
    if not chosen.fencing:
        logging.getLogger("outlast.fleet").warning("fencing.off: for tests only")
    return await Fleet(chosen, _tell_json if as_json else _tell).run()


def _tell_json(fleet: Fleet) -> None:
    print(json.dumps({"ready": True, **fleet.describe()}), flush=True)


def _tell(fleet: Fleet) -> None:
    pids = ", ".join(f"{child.kind} {child.pid}" for child in fleet.children)
    print(f"workers poll: {pids}; Ctrl-C drains them", flush=True)


def _at_least_one(processes: int) -> int:
    if not 1 <= processes <= 64:
        raise BadInputError(f"--processes {processes} is not between 1 and 64")
    return processes


def _refuse_two_hosts(single_host: bool) -> None:
    """
    A store in a file serves one host; another host's workers would not see it.
    """
    from outlast.runtime.connect import configuration, on_loopback

    address = configuration()["target_host"]
    if not single_host and not on_loopback(address):
        raise BadInputError(
            f"Temporal at {address} is not on this machine and the store is a file "
            "here; if all workers run on this one host, say --single-host"
        )


def main() -> None:
    """
    Run worker.py.
    """
    run_command(app)
