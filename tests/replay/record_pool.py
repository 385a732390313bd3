"""
Record a history of the pool: a lease that dies, an item that goes alone and is buried,
another one that survives there.

    python tests/replay/record_pool.py   (against a development server of its own)

What is there already is never recorded anew: see record.py.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent / "integration")]

from record import HISTORIES, scrub  # noqa: E402
from small_pool import Pool  # noqa: E402

from outlast.runtime.connect import connect  # noqa: E402
from outlast.runtime.embedded import Server, choose_ports  # noqa: E402
from outlast.store.database import Store  # noqa: E402

NAME = "pool-death"


async def main() -> None:
    path = HISTORIES / f"{NAME}.json"
    if path.exists():
        sys.exit(f"{path} is kept as it is")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), *choose_ports(None, None))
        await server.start()
        try:
            client = await connect(server.address)
            pool = Pool(client, Store(Path(folder) / "store.db"), name=NAME)
            pool.kills = {3: 99, 12: 2, 40: 1}
            pool.fill(range(1, 61))
            async with pool.at_work():
                handle = await pool.start()
                report = await handle.result()
                history = await handle.fetch_history()
        finally:
            server.stop()
    kept = json.dumps(scrub(json.loads(history.to_json())), indent=1)
    path.write_text(kept + "\n")
    print(f"{NAME}: {report}, {len(history.events)} events")


if __name__ == "__main__":
    asyncio.run(main())
