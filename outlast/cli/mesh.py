"""
The commands for the mesh: each asks the peer that runs on this home.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from outlast.cli.options import Json
from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_ACK_S, MESH_COPIES
from outlast.contracts.sizes import MESH_MISSION_BYTES
from outlast.process.called import tell

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Hand missions to the peer mesh, and look at it.",
)

# Resolving a mission on a peer that has just begun loads its agents first.
SUBMIT_LIMIT_S = MESH_ACK_S + 30.0


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="the mission, in YAML")],
    copies: Annotated[
        int, typer.Option(min=1, max=100, help="peers' logs to be in before we return")
    ] = MESH_COPIES,
    id_: Annotated[
        str | None,
        typer.Option("--id", help="the task's id; the same id and content joins"),
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Hand the mission in FILE to the mesh; says in how many peers' logs it is.
    """
    from outlast.cli.mission_file import mission_file

    mission = mission_file(file, id_)
    size = len(mission.model_dump_json().encode())
    if size > MESH_MISSION_BYTES:
        raise BadInputError(
            f"a mission of {size} bytes is over the cap of {MESH_MISSION_BYTES} of the "
            "mesh, whose logs have all of it: give its tasks where their input lies"
        )
    request = {"mission": mission.model_dump(mode="json"), "copies": copies}
    told = _request("submit", SUBMIT_LIMIT_S, **request)
    if as_json:
        print(json.dumps(told))
        return
    if "ended" in told:
        print(f"{told['task']} has ended already: {told['ended']}")
        return
    few = f", not {told['asked']}" if told["copies"] < told["asked"] else ""
    print(f"task {told['task']} is in {told['copies']} logs{few}")


@app.command()
def members(as_json: Json = False) -> None:
    """
    List the peers that this one sees, and those it waits for.
    """
    told = _request("members")
    if as_json:
        print(json.dumps(told))
        return
    for each in told["members"]:
        me = " (this one)" if each["peer"] == told["peer"] else ""
        where = each.get("address", "")
        load = f"  {each['load']} runs" if "load" in each else ""
        print(f"{each['peer']}  {each['state']}  {where}{load}{me}")


@app.command()
def status(
    task: Annotated[str | None, typer.Argument(help="of this task alone")] = None,
    as_json: Json = False,
) -> None:
    """
    Say how the tasks of the mesh stand, as far as this peer knows.
    """
    told = _request("status", task=task)
    if as_json:
        print(json.dumps(told))
        return
    for each in [told] if task else told:
        owner = f"  {each['owner']}, epoch {each['epoch']}" if each["owner"] else ""
        print(f"{each['task']}  {each['state']}{owner}")
    if task:
        _print_details(told)


@app.command()
def forget(
    peer: Annotated[str, typer.Argument(help="a peer that does not return")],
) -> None:
    """
    Wait no longer for PEER; if it returns, it begins with an empty log.
    """
    _request("forget", peer=peer)
    print(f"peer {peer} is forgotten")


@app.command()
def key() -> None:
    """
    Make a key for OUTLAST_MESH_KEY; all peers of a mesh have the same.
    """
    import base64
    import secrets

    print(base64.b64encode(secrets.token_bytes(32)).decode())


def _print_details(told: dict[str, Any]) -> None:
    for part, reached in told["parts"].items():
        how = "done" if reached["done"] else f"{reached['saves']} saves"
        print(f"  {part}  {how}, in epoch {reached['epoch']}")
    if told["partition_members"]:
        print(f"  known to {', '.join(told['partition_members'])} when it ended")
    for reason in (told["report"] or {}).get("degraded", []):
        tell(f"  lacks: {reason}")
    for each in told["evidence"]:
        print(f"  also ended as {each['status']} with {each['owner']}, which lost")


def _request(what: str, limit_s: float = 10.0, **more: Any) -> Any:
    from outlast.mesh.node.control_socket import send_request
    from outlast.settings import settings

    return send_request(settings().home, {"ask": what, **more}, limit_s)
