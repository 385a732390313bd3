"""
Have missions and batches go on that have given something up, or that others have ended.
"""

from temporalio.client import Client

from outlast.cli.session import Session, require_local_workers
from outlast.cli.snapshot import mission_progress
from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.contracts.ids import mesh_run_of
from outlast.ledger.item_results import ItemResults
from outlast.process.called import tell
from outlast.temporal.batches import resolve_batch, start_or_wake_pool
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.redrive import restart_mission, select_redrive
from outlast.temporal.resume import abandon, resume
from outlast.temporal.workflow_state import interrupted


async def redrive(
    session: Session, name: str, task: str | None, item: int | None, cause: str | None
) -> None:
    """
    Do again what a mission or batch has given up.

    :raises BadInputError: when there is none such.
    """
    require_local_workers()
    if session.is_batch(name):
        if task is not None:
            raise BadInputError(
                f"{name} is a batch, which has no tasks: leave --task out, or name an "
                "item with --item"
            )
        await _redrive_items(session, name, item, cause)
        return
    if item is not None or cause is not None:
        raise BadInputError(
            f"{name} is no batch and has no items: leave --item and --cause out, or "
            "name a task with --task"
        )
    await _redrive_mission(session, name, task)


async def _redrive_items(
    session: Session, batch: str, item: int | None, cause: str | None
) -> None:
    entry = session.require_batch(batch)
    again = resolve_batch(entry.role, batch, entry.tenant, session.store)
    client = await _known_server(session)
    count = ItemResults(session.store).redrive(batch, item, cause)
    if not count:
        raise BadInputError(
            f"no dead letter in {batch!r} matches: see outlast dead-letters {batch}"
        )
    await start_or_wake_pool(client, again)
    tell(f"{batch}: {count} taken back; follow with: outlast status {batch}")


async def _redrive_mission(session: Session, mission: str, task: str | None) -> None:
    await session.reconcile(mission)
    records, entry = session.missions, session.require_mission(mission)
    if entry.interruption:
        raise BadInputError(interrupted(mission, entry.interruption))
    if entry.report is None:
        client = await _known_server(session)
        ended = (await mission_progress(client, mission)).settled
        again = select_redrive(records, mission, ended, task)
        await session.update(mission, "redrive", again)
        return
    _require_no_mesh_run(mission)
    client = await _known_server(session)
    again = select_redrive(records, mission, entry.report.tasks, task)
    await restart_mission(client, records, entry.report, again)
    print(f"{mission}: goes on with {', '.join(again.tasks)}")
    tell(f"follow with: outlast status {mission}")


def _require_no_mesh_run(mission: str) -> None:
    """
    No peer would suspend a run that has ended and goes on, or hear of its new end.

    :raises BadInputError: when *mission* was such a run.
    """
    if mesh_run_of(mission):
        raise BadInputError(
            f"{mission} was run for the mesh, which would not hear of its new end: "
            "submit the mission under another id with outlast mesh submit"
        )


async def resume_interrupted(session: Session, name: str) -> None:
    require_local_workers()
    await resume(await _known_server(session), session.store, name)
    tell(f"{name}: goes on; follow with: outlast status {name}")


async def abandon_interrupted(session: Session, name: str) -> None:
    try:
        client = await session.client()
    except UnavailableError:
        client = None  # the record is what is known then
    await abandon(client, session.store, name)
    tell(f"{name}: abandoned; what is done is kept: outlast status {name}")


async def _known_server(session: Session) -> Client:
    client = await session.client()
    await require_known_server(client, session.store)
    return client
