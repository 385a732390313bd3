"""
The starter's verbs for what others have ended in Temporal: go on with it, or end it.
"""

from outlast.cli.run_mission import connect_default, require_local_workers
from outlast.cli.stores import open_store
from outlast.contracts.errors import UnavailableError
from outlast.process.called import tell
from outlast.temporal.own_temporal import require_known_server
from outlast.temporal.resume import abandon, resume


async def resume_interrupted(name: str) -> None:
    """
    Have a mission or batch go on.
    """
    require_local_workers()
    client, store = await connect_default(), open_store()
    await require_known_server(client, store)
    await resume(client, store, name)
    tell(f"{name}: goes on; follow with: outlast status {name}")


async def abandon_interrupted(name: str) -> None:
    """
    End a mission or batch for good.
    """
    try:
        client = await connect_default()
    except UnavailableError:
        client = None  # the record is what is known then
    await abandon(client, open_store(), name)
    tell(f"{name}: abandoned; what is done is kept: outlast status {name}")
