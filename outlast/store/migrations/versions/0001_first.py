"""
The first schema: missions, the ledger, documents.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
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

documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("library", words(), nullable=False),
    Column("path", words(), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("digest", words(), nullable=False),
    Column("title", words(), nullable=False),
    Column("gap", words()),
    UniqueConstraint("library", "path"),
)

passages = Table(
    "passages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "document_id",
        Integer,
        ForeignKey("documents.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("line", Integer, nullable=False),
    Column("lines", words()),
    Column("heading", words(), nullable=False),
    Column("text", words(), nullable=False),
)

Index("passages_by_document", passages.c.document_id)
Index("attempts_by_task", attempts.c.mission, attempts.c.task, attempts.c.attempt)
Index("effects_by_mission", effects.c.mission)
Index("refusals_by_mission", refusals.c.mission)

FULL_TEXT = {
    "sqlite": """
CREATE VIRTUAL TABLE passages_fts USING fts5(
    library, title, heading, text, tokenize='porter unicode61 remove_diacritics 2'
)
""",
    # Its words come stemmed, as the other database stems them by itself.
    "postgresql": """
CREATE TABLE passages_fts (
    rowid INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    library TEXT COLLATE "C" NOT NULL,
    title TEXT NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    length INTEGER NOT NULL,
    words TSVECTOR NOT NULL
);
CREATE INDEX passages_fts_words ON passages_fts USING gin (words);
CREATE INDEX passages_fts_library ON passages_fts (library)
""",
}


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection)
    op.execute(FULL_TEXT[connection.dialect.name])
