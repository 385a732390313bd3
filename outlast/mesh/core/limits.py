"""
What the mesh can carry: an event must fit into one message.
"""

import zlib

from outlast.contracts.errors import BadInputError
from outlast.contracts.ids import MeshRunId, Name
from outlast.contracts.mesh_timing import MESH_EVENT_BYTES
from outlast.contracts.missions import Mission
from outlast.contracts.reports import Report
from outlast.contracts.text import sha256_hex
from outlast.mesh.core.events import AnyFact, TaskFinished, TaskSubmitted, dumped

# A run's id is the mission's with its epoch, and is a name too.
MESH_ID_CHARS = 90


def fits_message(fact: AnyFact) -> bool:
    body = fact.model_dump_json().encode()
    if len(body) > MESH_EVENT_BYTES:
        body = zlib.compress(body, 1)
    return len(body) <= MESH_EVENT_BYTES


def submitted_event(mission: Mission, copies: int) -> TaskSubmitted:
    """
    :raises BadInputError: when the mesh cannot carry *mission*.
    """
    if len(mission.id) > MESH_ID_CHARS:
        raise BadInputError(
            f"mission id {mission.id!r} has {len(mission.id)} characters, in a mesh it "
            f"may have {MESH_ID_CHARS}: choose a shorter one"
        )
    fact = TaskSubmitted(
        task=mission.id,
        # Each peer keeps it in its own store.
        mission=dumped(mission.model_copy(update={"store": ""})),
        digest=mission.digest(),
        roles=roles_of(mission),
        copies=copies,
    )
    if not fits_message(fact):
        raise BadInputError(
            f"mission {mission.id!r} is too large for a mesh: packed it may have "
            f"{MESH_EVENT_BYTES} bytes; put what is large where all peers can read it"
        )
    return fact


def roles_of(mission: Mission) -> list[list[Name]]:
    """
    The roles that the owner of *mission* must play: of each list one.
    """
    routes = {
        tuple(mission.crew[each.role].routes)
        if each.role in mission.crew
        else (each.role,)
        for each in mission.tasks
        if each.required
    }
    return [list(each) for each in sorted(routes)]


def finished_event(
    run: MeshRunId, owner: str, report: Report, knew: list[str]
) -> TaskFinished:
    """
    Note how a run has ended; of a report that is too large, without its tasks.
    """
    fact = TaskFinished(
        task=run.task,
        epoch=run.epoch,
        owner=owner,
        status=report.status,
        report=dumped(report),
        digest=sha256_hex(report.model_dump_json()),
        partition_members=knew,
    )
    if fits_message(fact):
        return fact
    lacking = ["the report is in the owner's store"]
    bare = {**fact.report, "tasks": [], "degraded": lacking}
    return fact.model_copy(update={"report": bare})
