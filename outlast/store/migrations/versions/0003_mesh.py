"""
The mesh: each peer's copy of the event log.
"""

from alembic import op
from sqlalchemy import BigInteger, MetaData, Table

from outlast.store.columns import bigints, floats, keys, texts

revision = "3"
down_revision = "2"

metadata = MetaData()
Table(
    "mesh_events",
    metadata,
    *keys("peer", "origin"),
    *keys("seq", kind=BigInteger),
    *floats("at_s"),
    *texts("body"),
)
Table("mesh_origins", metadata, *keys("peer", "origin"), *bigints("head", "floor"))


def upgrade() -> None:
    metadata.create_all(op.get_bind())
