"""
The histories that are kept, and how one more comes to them.

What is there is never recorded anew to make a test pass: a history that no longer
replays is a mission of a user that no longer moves.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

HISTORIES = Path(__file__).parent / "histories"
LOCAL = {"stackTrace", "identity"}
# A longer one is for no reader and is kept compressed.
LARGE_BYTES = 500_000
# Events after which the history of the missions "renewed" was full.
FULL = 60


def kept() -> dict[str, Path]:
    """
    List the histories by name.
    """
    return {path.name.partition(".")[0]: path for path in sorted(HISTORIES.iterdir())}


def read(path: Path) -> str:
    """
    Read a history's JSON.
    """
    packed = path.suffix == ".gz"
    return (
        gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    ).decode()


async def keep(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    """
    Keep the history of a workflow that has ended, under a name that is free.
    """
    assert name not in kept(), f"{name} is kept as it is"
    history = await handle.fetch_history()
    HISTORIES.mkdir(exist_ok=True)
    text = json.dumps(_scrubbed(json.loads(history.to_json())), indent=1) + "\n"
    path = HISTORIES / f"{name}.json"
    if len(text) > LARGE_BYTES:
        path = path.with_suffix(".json.gz")
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_text(text)
    print(f"{name}: {len(history.events)} events")


def _scrubbed(value: Any) -> Any:
    """
    Leave out what says where it was recorded; replay reads none of it.
    """
    if isinstance(value, dict):
        return {key: _scrubbed(each) for key, each in value.items() if key not in LOCAL}
    return [_scrubbed(each) for each in value] if isinstance(value, list) else value
