"""
The mesh: each peer's copy of the event log.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, MetaData, Table, Text

revision = "3"
down_revision = "2"

metadata = MetaData()


def words() -> Text:
    """
    Text sorted by its code points.
    """
    return Text().with_variant(Text(collation="C"), "postgresql")


mesh_events = Table(
    "mesh_events",
    metadata,
    Column("peer", words(), primary_key=True),
    Column("origin", words(), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("body", words(), nullable=False),
)

mesh_origins = Table(
    "mesh_origins",
    metadata,
    Column("peer", words(), primary_key=True),
    Column("origin", words(), primary_key=True),
    Column("head", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
