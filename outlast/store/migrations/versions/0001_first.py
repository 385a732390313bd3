"""
The first schema: missions and the ledger.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

revision = "1"
down_revision = None

metadata = MetaData()


def words() -> Text:
    """
    Text sorted by its code points.
    """
    return Text().with_variant(Text(collation="C"), "postgresql")


meta = Table(
    "meta",
    metadata,
    Column("key", words(), primary_key=True),
    Column("value", words(), nullable=False),
)

missions = Table(
    "missions",
    metadata,
    Column("id", words(), primary_key=True),
    Column("tenant", words(), nullable=False),
    Column("digest", words(), nullable=False),
    Column("goal", words(), nullable=False),
    Column("state", words(), nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("report", words()),
)

claims = Table(
    "claims",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("task", words(), primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("route", words(), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("task", words(), primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("route", words(), nullable=False),
    Column("host", words(), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("resumed_seq", Integer, nullable=False),
    Column("noticed_by", words()),
    Column("after_s", Float),
    Column("ended_at", Float),
    Column("ending", words()),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("task", words(), primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("checkpoint", words(), nullable=False),
    Column("saved_at", Float, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("task", words(), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("answer", words(), nullable=False),
    Column("recorded_at", Float, nullable=False),
)

effects = Table(
    "effects",
    metadata,
    Column("tenant", words(), primary_key=True),
    Column("key", words(), primary_key=True),
    Column("state", words(), nullable=False),
    Column("content", words(), nullable=False),
    Column("result", words()),
    Column("mission", words(), nullable=False),
    Column("task", words(), nullable=False),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("applied", Integer, nullable=False, default=0),
    Column("diverged", Integer, nullable=False, default=0),
    Column("intended_at", Float, nullable=False),
    Column("applied_at", Float),
)

blobs = Table(
    "blobs",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("digest", words(), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("stored_at", Float, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("mission", words(), nullable=False),
    Column("task", words(), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("what", words(), nullable=False),
    Column("refused_at", Float, nullable=False),
)

spending = Table(
    "spending",
    metadata,
    Column("mission", words(), primary_key=True),
    Column("task", words(), primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
)

Index("attempts_by_task", attempts.c.mission, attempts.c.task, attempts.c.attempt)
Index("effects_by_mission", effects.c.mission)
Index("refusals_by_mission", refusals.c.mission)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
