"""
Values that are too large to travel, by the digest of their bytes. Each belongs to a
mission or a batch, and goes with it.
"""

from collections.abc import Callable, Iterable

import sqlalchemy as sa

from outlast.contracts.errors import StoreError
from outlast.contracts.sizes import ITEM_BYTES
from outlast.contracts.text import sha256_hex_of_bytes
from outlast.store.schema import payloads
from outlast.store.upsert import insert_if_absent

# What a row has instead of a large text. No JSON begins so.
REFERENCE = "@"

_GET = sa.select(payloads.c.body).where(
    payloads.c.mission == sa.bindparam("of_mission"),
    payloads.c.digest == sa.bindparam("of_digest"),
)


def put(connection: sa.Connection, mission: str, body: bytes) -> str:
    """
    Keep *body* for *mission*; returns its digest. The same body twice is one row.
    """
    digest = sha256_hex_of_bytes(body)
    row = {"mission": mission, "digest": digest, "body": body}
    insert_if_absent(connection, payloads, row)
    return digest


def get(connection: sa.Connection, mission: str, digest: str) -> bytes | None:
    found = connection.scalar(_GET, {"of_mission": mission, "of_digest": digest})
    return None if found is None else bytes(found)


def putting(
    mission: str, bodies: Iterable[bytes]
) -> Callable[[sa.Connection], list[str]]:
    return lambda connection: [put(connection, mission, body) for body in bodies]


def is_large(text: str) -> bool:
    """
    Say whether *text* has no place in a row that is read with a thousand others.
    """
    return len(text) > ITEM_BYTES // 4 and len(text.encode()) > ITEM_BYTES


def store_if_large(connection: sa.Connection, batch: str, text: str) -> str:
    """
    Put the JSON *text* aside where it is large; returns what its row holds instead.
    """
    if not is_large(text):
        return text
    return REFERENCE + put(connection, batch, text.encode())


def is_stored(text: str) -> bool:
    return text.startswith(REFERENCE)


def load_if_stored(connection: sa.Connection, batch: str, text: str) -> str:
    if not is_stored(text):
        return text
    body = get(connection, batch, text.removeprefix(REFERENCE))
    if body is None:
        raise StoreError(f"a large item of {batch} is not in the store")
    return body.decode()
