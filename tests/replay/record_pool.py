"""
Record histories of batches, one for each path that a batch can take.

    python tests/replay/record_pool.py   (against a development server of its own)

What is there already stays as it is: see keep.py.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "integration")]

from keep import keep, kept  # noqa: E402
from small_pool import Handle, Pool, ended, reported  # noqa: E402
from temporalio.client import Client  # noqa: E402

from outlast.contracts.batches import POOL_CONTINUE_AS_NEW_EVENTS, TARGET_LEASE_S  # noqa: E402
from outlast.contracts.failures import FailureType  # noqa: E402
from outlast.dev.ports import choose_ports  # noqa: E402
from outlast.dev.server import DevServer  # noqa: E402
from outlast.store.database import Store  # noqa: E402
from outlast.temporal.connect import connect  # noqa: E402


async def death(pool: Pool) -> None:
    """
    A lease dies, an item goes alone and is buried, another one survives there.
    """
    pool.kills = {3: 99, 12: 2, 40: 1}
    pool.fill(range(1, 61))
    await ends(pool, await pool.start())


async def drained(pool: Pool) -> None:
    pool.ends = [ended(FailureType.DRAINED, 3), ended(FailureType.DRAINED)]
    pool.fill(range(1, 31))
    await ends(pool, await pool.start())


async def failed(pool: Pool) -> None:
    pool.ends = [ended(FailureType.FAILED, cause="no such store")]
    pool.fill(range(1, 61))
    await ends(pool, await pool.start())


async def fed(pool: Pool) -> None:
    """
    Items come while it runs, and at last no more.
    """
    pool.fill(range(1, 6), closed=False)
    handle = await pool.start()
    await pool.until(handle, settled=5, leases=0)
    pool.fill(range(6, 31), closed=False)
    await handle.signal("wake")
    await pool.until(handle, settled=30, leases=0)
    pool.batches.close_input(pool.name)
    await handle.signal("wake")
    await ends(pool, handle)


async def cancelled(pool: Pool) -> None:
    handle = await with_leases_out(pool)
    await handle.execute_update("cancel", "recorded")
    await ends(pool, handle)


async def cancelled_from_outside(pool: Pool) -> None:
    handle = await with_leases_out(pool)
    await handle.cancel()
    await ends(pool, handle)


async def with_leases_out(pool: Pool) -> Handle:
    pool.gate.clear()
    pool.fill(range(1, 61))
    handle = await pool.start()
    while pool.now < 2:
        await pool.progress(handle)
    return handle


async def renewed(pool: Pool) -> None:
    """
    So many leases that a second run goes on; both are kept.
    """
    pool.item_s = TARGET_LEASE_S  # leases of one item
    pool.kills = {20: 99}
    pool.fill(
        range(1, POOL_CONTINUE_AS_NEW_EVENTS // 3)
    )  # of more than three events each
    handle = await pool.start(lease_size=1)
    first = handle.first_execution_run_id
    await handle.result()
    again = pool.client.get_workflow_handle(pool.name)
    assert (await again.describe()).run_id != first, "one run was enough"
    await keep(pool.name, pool.client.get_workflow_handle(pool.name, run_id=first))
    await keep(f"{pool.name}-again", again)


async def ends(pool: Pool, handle: Handle) -> None:
    await reported(handle)
    await keep(pool.name, handle)


PATHS: dict[str, Callable[[Pool], Awaitable[None]]] = {
    "pool-death": death,
    "pool-drained": drained,
    "pool-failed": failed,
    "pool-fed": fed,
    "pool-cancelled": cancelled,
    "pool-cancelled-from-outside": cancelled_from_outside,
    "pool-renewed": renewed,
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = DevServer(Path(folder), *choose_ports(None, None))
        await server.start()
        try:
            client = await connect(server.address, identity="recorder")
            for name in PATHS:
                if name not in kept():
                    await record(name, client, Store(Path(folder) / "store.db"))
        finally:
            server.stop()


async def record(name: str, client: Client, store: Store) -> None:
    pool = Pool(client, store, name=name)
    async with pool.at_work():
        await PATHS[name](pool)
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
