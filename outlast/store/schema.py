"""
What the store remembers, as tables. Times are seconds since 1970, UTC.

SCHEMA grows with every change of these tables, which comes with a migration; a store
with a higher number than the program knows is refused, never guessed at.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

SCHEMA = 4
# A release that knows this schema may go on with a store of ours: what it does not know
# it does not need.
OLDEST = 4


class PortableText(TypeDecorator[str]):
    """
    Text that is sorted by its code points and holds no NUL, which PostgreSQL cannot
    keep: alike on every database.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value.replace("\0", "\ufffd") if value else value


metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", PortableText, primary_key=True),
    Column("value", PortableText, nullable=False),
)

missions = Table(
    "missions",
    metadata,
    Column("id", PortableText, primary_key=True),
    Column("tenant", PortableText, nullable=False),
    Column("digest", PortableText, nullable=False),
    Column("goal", PortableText, nullable=False),
    Column(
        "state", PortableText, nullable=False
    ),  # see store/books.py, or a final MissionStatus
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("report", PortableText),  # the Report as JSON, once finished
    Column("asked", PortableText),  # the Mission as JSON, to begin it anew from
    Column("run", PortableText),  # of its workflow, that has closed it
    Column(
        "interruption", PortableText
    ),  # why it does not run, though it has not ended
)

# The runs of a mission's or batch's workflow, in the order in which the ledger found
# them to be the server's current one. The last of them may claim tasks.
runs = Table(
    "runs",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("number", BigInteger, primary_key=True),  # from 1
    Column("run", PortableText, nullable=False),  # its id
)

# The highest fence seen for a task: the one row that every guarded write holds.
fences = Table(
    "fences",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("task", PortableText, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("route", PortableText, nullable=False),
    Column("attempt", Integer, nullable=False),  # of this round, from 1
    Column("failures", Integer, nullable=False),  # of this route in this round
)

attempts = Table(
    "attempts",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("task", PortableText, primary_key=True),
    Column("fence", BigInteger, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("route", PortableText, nullable=False),
    Column("host", PortableText, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("resumed_seq", Integer, nullable=False),  # 0: from the start
    Column("previous_failure", PortableText),  # what ended the attempt before this one
    Column("detected_by", PortableText),  # what has noticed that: a `Detector`
    Column("recovery_s", Float),  # since the last sign of that attempt
    Column("ended_at", Float),
    Column("end_reason", PortableText),
    Column(
        "failure_type", PortableText
    ),  # how it ended: a `FailureType`; none for a result
    Column("traceback", PortableText),  # of what the agent raised, bounded
)

# The newest progress of a task, of each route that it was tried on: a save replaces the
# one before, with its body.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("task", PortableText, primary_key=True),
    Column("route", PortableText, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),  # counts the round's saves
    Column("version", Integer, nullable=False),  # of the agent
    Column("value", PortableText),  # JSON
    Column("digest", PortableText),  # of the body, which is too large to travel
    Column("body", LargeBinary),  # JSON
    Column("saved_at", Float, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("task", PortableText, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("answer", PortableText, nullable=False),  # the Answer, as JSON
    Column("recorded_at", Float, nullable=False),
    Column("claimed", BigInteger, nullable=False),  # the highest fence by then
    # JSON; last, since it may be large and most readers want the rest alone.
    Column("result", PortableText, nullable=False),
)

# What is too large to travel through Temporal, or to lie in a row that is read with
# others: see contracts/sizes.py.
payloads = Table(
    "payloads",
    metadata,
    Column("mission", PortableText, primary_key=True),  # or a batch
    Column("digest", PortableText, primary_key=True),  # sha256 of the body
    Column("body", LargeBinary, nullable=False),
)

effects = Table(
    "effects",
    metadata,
    Column("tenant", PortableText, primary_key=True),
    Column(
        "scope", PortableText, primary_key=True
    ),  # of the logical mission; "": the tenant
    Column("key", PortableText, primary_key=True),
    Column("number", Integer, primary_key=True),  # above 1: allowed by a person
    Column("state", PortableText, nullable=False),  # see attempt/effect_decision.py
    Column("identity", PortableText, nullable=False),  # the content, as canonical JSON
    Column("payload", PortableText),  # what is sent, where that is not the content
    Column("result", PortableText),
    Column("mission", PortableText, nullable=False),
    Column("task", PortableText, nullable=False),
    Column("round", Integer, nullable=False),
    Column("logical", PortableText, nullable=False),  # the mission's scope
    Column(
        "turn", PortableText, nullable=False
    ),  # round, with those of the missions around
    Column("fence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("applied", Integer, nullable=False, default=0),
    Column("conflicts", Integer, nullable=False, default=0),
    Column("intended_at", Float, nullable=False),
    Column("deadline", Float, nullable=False),  # until when its attempt can last
    Column("applied_at", Float),
    Column("settled_by", PortableText),  # the person who said what had become of it
    Column("settled_at", Float),
)

stale_writes = Table(
    "stale_writes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("mission", PortableText, nullable=False),
    Column("task", PortableText, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("what", PortableText, nullable=False),
    Column("refused_at", Float, nullable=False),
)

spending = Table(
    "spending",
    metadata,
    Column("mission", PortableText, primary_key=True),
    Column("task", PortableText, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", PortableText, primary_key=True),
    Column("tenant", PortableText, nullable=False),
    Column("role", PortableText, nullable=False),
    Column("state", PortableText, nullable=False),  # open, completed, cancelled
    Column("closed", Boolean, nullable=False),  # no more items will come
    Column("total", Integer, nullable=False),  # also the number of the last item
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
)

items = Table(
    "items",
    metadata,
    Column("batch", PortableText, primary_key=True),
    Column("item", Integer, primary_key=True),  # from 1
    Column("digest", LargeBinary, nullable=False),  # the same item twice is one
    Column("body", PortableText, nullable=False),  # JSON
    UniqueConstraint("batch", "digest"),
    sqlite_with_rowid=False,
)

item_results = Table(
    "item_results",
    metadata,
    Column("batch", PortableText, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("result", PortableText, nullable=False),  # JSON
    Column("degraded", PortableText),
    sqlite_with_rowid=False,
)

# Items that failed or took their process along; those given up are dead letters.
item_failures = Table(
    "item_failures",
    metadata,
    Column("batch", PortableText, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("cause", PortableText, nullable=False),
    Column("dead_at", Float),
    Column("traceback", PortableText),  # of the last failure, bounded
    sqlite_with_rowid=False,
)

# The log of the mesh, as the peer has it: several peers may share a store.
mesh_events = Table(
    "mesh_events",
    metadata,
    Column("peer", PortableText, primary_key=True),
    Column("origin", PortableText, primary_key=True),  # who wrote it, and in which life
    Column("seq", BigInteger, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("body", PortableText, nullable=False),  # JSON
)

# Of each origin, up to where the peer has its events, and up to where some of them were
# compacted away.
mesh_origins = Table(
    "mesh_origins",
    metadata,
    Column("peer", PortableText, primary_key=True),
    Column("origin", PortableText, primary_key=True),
    Column("head", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
)

Index("attempts_by_task", attempts.c.mission, attempts.c.task, attempts.c.attempt)
Index("effects_by_mission", effects.c.mission)
Index("stale_writes_by_mission", stale_writes.c.mission)
