"""
A checkpoint as a row of the store, and back.
"""

import json
from typing import Any

from outlast.contracts.attempts import Checkpoint


def checkpoint_row(checkpoint: Checkpoint) -> dict[str, Any]:
    """
    What a row says of *checkpoint*; whose it is and its body come beside it.
    """
    return {
        "seq": checkpoint.seq,
        "route": checkpoint.route,
        "version": checkpoint.version,
        "value": None if checkpoint.value is None else json.dumps(checkpoint.value),
        "digest": checkpoint.blob,
    }


def checkpoint_of(row: Any) -> Checkpoint:
    """
    Read the checkpoint that *row* of the table holds.
    """
    return Checkpoint(
        seq=row.seq,
        route=row.route,
        version=row.version,
        value=None if row.value is None else json.loads(row.value),
        blob=row.digest,
    )
