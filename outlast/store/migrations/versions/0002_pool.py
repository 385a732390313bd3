"""
The pool: batches, their items, and what became of them.
"""

from alembic import op
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

revision = "2"
down_revision = "1"

metadata = MetaData()


def words() -> Text:
    """
    Text sorted by its code points.
    """
    return Text().with_variant(Text(collation="C"), "postgresql")


batches = Table(
    "batches",
    metadata,
    Column("id", words(), primary_key=True),
    Column("tenant", words(), nullable=False),
    Column("role", words(), nullable=False),
    Column("state", words(), nullable=False),
    Column("sealed", Boolean, nullable=False),
    Column("total", Integer, nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
)

items = Table(
    "items",
    metadata,
    Column("batch", words(), primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("body", words(), nullable=False),
    UniqueConstraint("batch", "digest"),
    sqlite_with_rowid=False,
)

item_results = Table(
    "item_results",
    metadata,
    Column("batch", words(), primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("result", words(), nullable=False),
    Column("degraded", words()),
    sqlite_with_rowid=False,
)

item_troubles = Table(
    "item_troubles",
    metadata,
    Column("batch", words(), primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("cause", words(), nullable=False),
    Column("dead_at", Float),
    sqlite_with_rowid=False,
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
