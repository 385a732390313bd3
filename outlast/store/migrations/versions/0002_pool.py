"""
The pool: batches, their items, and what became of them.
"""

from alembic import op
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, UniqueConstraint

from outlast.store.columns import blobs, floats, integers, keys, texts

revision = "2"
down_revision = "1"

metadata = MetaData()
Table(
    "batches",
    metadata,
    *keys("id"),
    *texts("tenant", "role", "state"),
    Column("sealed", Boolean, nullable=False),
    *integers("total"),
    *floats("accepted_at"),
    *floats("finished_at", null=True),
)
Table(
    "items",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),
    *blobs("digest"),
    *texts("body"),
    UniqueConstraint("batch", "digest"),
    sqlite_with_rowid=False,
)
Table(
    "item_results",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),
    *texts("result"),
    *texts("degraded", null=True),
    sqlite_with_rowid=False,
)
Table(
    "item_troubles",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),
    *integers("failures", "deaths"),
    *texts("cause"),
    *floats("dead_at", null=True),
    sqlite_with_rowid=False,
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
