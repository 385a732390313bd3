"""
What the store remembers, as tables. Times are seconds since 1970, UTC.

SCHEMA grows with every change of these tables; a store with a higher number than
the program knows is refused, never guessed at.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA = 2

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

missions = Table(
    "missions",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("goal", Text, nullable=False),
    Column("state", String, nullable=False),  # starting, accepted, or a final Status
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("report", Text),  # the Report as JSON, once finished
)

# The highest fence seen for a task: the one row that every guarded write holds.
claims = Table(
    "claims",
    metadata,
    Column("mission", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("route", String, nullable=False),
    Column("attempt", Integer, nullable=False),  # of this round, from 1
    Column("failures", Integer, nullable=False),  # of this route in this round
)

attempts = Table(
    "attempts",
    metadata,
    Column("mission", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("route", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("resumed_seq", Integer, nullable=False),  # 0: from the start
    Column("noticed_by", String),  # what ended the attempt before this one
    Column("after_s", Float),  # since the last sign of that attempt
    Column("ended_at", Float),
    Column("ending", Text),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("mission", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("saved_at", Float, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("mission", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("answer", Text, nullable=False),
    Column("recorded_at", Float, nullable=False),
)

effects = Table(
    "effects",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),  # intended, applied
    Column("content", Text, nullable=False),
    Column("result", Text),
    Column("mission", String, nullable=False),
    Column("task", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("applied", Integer, nullable=False, default=0),
    Column("diverged", Integer, nullable=False, default=0),
    Column("intended_at", Float, nullable=False),
    Column("applied_at", Float),
)

# Large progress; the checkpoint carries its digest.
blobs = Table(
    "blobs",
    metadata,
    Column("mission", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("stored_at", Float, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("mission", String, nullable=False),
    Column("task", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("what", String, nullable=False),
    Column("refused_at", Float, nullable=False),
)

spending = Table(
    "spending",
    metadata,
    Column("mission", String, primary_key=True),
    Column("task", String, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("library", String, nullable=False),
    Column("path", String, nullable=False),  # below the library's folder, with "/"
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("digest", String, nullable=False),  # sha256 of the file
    Column("title", Text, nullable=False),
    Column("gap", Text),  # why it could not be read
    UniqueConstraint("library", "path"),
)

# Searched by their stemmed words in the virtual table passages_fts (store/search.py),
# whose rowid is the passage's id.
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
    Column("line", Integer, nullable=False),  # from 1
    Column("lines", Text),  # JSON: of each line of text, where they do not run on
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False),
    Column("role", String, nullable=False),
    Column("state", String, nullable=False),  # open, completed, cancelled
    Column("sealed", Boolean, nullable=False),  # no more items will come
    Column("total", Integer, nullable=False),  # also the number of the last item
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
)

items = Table(
    "items",
    metadata,
    Column("batch", String, primary_key=True),
    Column("item", Integer, primary_key=True),  # from 1
    Column("digest", LargeBinary, nullable=False),  # the same item twice is one
    Column("body", Text, nullable=False),  # JSON
    UniqueConstraint("batch", "digest"),
    sqlite_with_rowid=False,
)

item_results = Table(
    "item_results",
    metadata,
    Column("batch", String, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("result", Text, nullable=False),  # JSON
    Column("degraded", Text),
    sqlite_with_rowid=False,
)

# Items that failed or took their process along; those given up are dead letters.
item_troubles = Table(
    "item_troubles",
    metadata,
    Column("batch", String, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("cause", Text, nullable=False),
    Column("dead_at", Float),
    sqlite_with_rowid=False,
)

Index("passages_by_document", passages.c.document_id)
Index("attempts_by_task", attempts.c.mission, attempts.c.task, attempts.c.attempt)
Index("effects_by_mission", effects.c.mission)
Index("refusals_by_mission", refusals.c.mission)
