"""
The first schema: missions and the ledger.
"""

from alembic import op
from sqlalchemy import BigInteger, Index, Integer, MetaData, Table

from outlast.store.columns import bigints, blobs, floats, integers, keys, texts

revision = "1"
down_revision = None

metadata = MetaData()
Table("meta", metadata, *keys("key"), *texts("value"))
Table(
    "missions",
    metadata,
    *keys("id"),
    *texts("tenant", "digest", "goal", "state"),
    *floats("accepted_at"),
    *floats("finished_at", null=True),
    *texts("report", null=True),
)
Table(
    "claims",
    metadata,
    *keys("mission", "task"),
    *integers("round"),
    *bigints("fence"),
    *texts("route"),
    *integers("attempt", "failures"),
)
Table(
    "attempts",
    metadata,
    *keys("mission", "task"),
    *keys("fence", kind=BigInteger),
    *integers("round", "attempt"),
    *texts("route", "host"),
    *integers("pid"),
    *floats("started_at"),
    *integers("resumed_seq"),
    *texts("noticed_by", null=True),
    *floats("after_s", "ended_at", null=True),
    *texts("ending", null=True),
    Index("attempts_by_task", "mission", "task", "attempt"),
)
Table(
    "checkpoints",
    metadata,
    *keys("mission", "task"),
    *integers("round"),
    *bigints("fence"),
    *texts("checkpoint"),
    *floats("saved_at"),
)
Table(
    "results",
    metadata,
    *keys("mission", "task"),
    *keys("round", kind=Integer),
    *bigints("fence"),
    *texts("answer"),
    *floats("recorded_at"),
)
Table(
    "effects",
    metadata,
    *keys("tenant", "key"),
    *texts("state", "content"),
    *texts("result", null=True),
    *texts("mission", "task"),
    *integers("round"),
    *bigints("fence"),
    *integers("applied", "diverged"),
    *floats("intended_at"),
    *floats("applied_at", null=True),
    Index("effects_by_mission", "mission"),
)
Table(
    "blobs", metadata, *keys("mission", "digest"), *blobs("body"), *floats("stored_at")
)
Table(
    "refusals",
    metadata,
    *keys("id", kind=Integer),
    *texts("mission", "task"),
    *bigints("fence"),
    *texts("what"),
    *floats("refused_at"),
    Index("refusals_by_mission", "mission"),
)
Table(
    "spending", metadata, *keys("mission", "task"), *bigints("tokens"), *floats("cost")
)


def upgrade() -> None:
    metadata.create_all(op.get_bind())
