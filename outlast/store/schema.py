"""
What the store remembers, as tables. Times are seconds since 1970, UTC.

SCHEMA grows with every change of these tables, which comes with a migration; a store
with a higher number than the program knows is refused, never guessed at.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
)

from outlast.store.columns import bigints, blobs, floats, integers, keys, texts

SCHEMA = 4
# A release that knows this schema may use a store of ours: it needs nothing of what it
# does not know.
OLDEST = 4

metadata = MetaData()

meta = Table("meta", metadata, *keys("key"), *texts("value"))

missions = Table(
    "missions",
    metadata,
    *keys("id"),
    *texts("tenant", "digest", "goal"),
    *texts("state"),  # see ledger/missions.py, or a final MissionStatus
    *floats("accepted_at"),
    *floats("finished_at", null=True),
    *texts("report", null=True),  # the Report as JSON, once finished
    *texts("asked", null=True),  # the Mission as JSON, to begin it anew from
    *texts("run", null=True),  # of its workflow, that has closed it
    *texts("interruption", null=True),  # why it does not run, though it has not ended
)

# The runs of a mission's or batch's workflow, in the order in which the ledger found
# them to be the server's current one. The last of them may claim tasks.
runs = Table(
    "runs",
    metadata,
    *keys("mission"),
    *keys("number", kind=BigInteger),  # from 1
    *texts("run"),  # its id
)

# The highest fence seen for a task: every guarded write locks this row.
fences = Table(
    "fences",
    metadata,
    *keys("mission", "task"),
    *integers("round"),
    *bigints("fence"),
    *texts("route"),
    *integers("attempt"),  # of this round, from 1
    *integers("failures"),  # of this route in this round
    *texts("waits_for", null=True),  # the service that is away
)

attempts = Table(
    "attempts",
    metadata,
    *keys("mission", "task"),
    *keys("fence", kind=BigInteger),
    *integers("round", "attempt"),
    *texts("route", "host"),
    *integers("pid"),
    *floats("started_at"),
    *integers("resumed_seq"),  # 0: from the start
    *texts("previous_failure", null=True),  # what ended the attempt before this one
    *texts("detected_by", null=True),  # what has noticed that: a `Detector`
    *floats("recovery_s", null=True),  # since the last sign of that attempt
    *floats("ended_at", null=True),
    *texts("end_reason", null=True),
    *texts("failure_type", null=True),  # a `FailureType`; none for a result
    *texts("traceback", null=True),  # of what the agent raised, bounded
    Index("attempts_by_task", "mission", "task", "attempt"),
)

# The newest progress of a task, of each route that it was tried on: a save replaces the
# one before, with its body.
checkpoints = Table(
    "checkpoints",
    metadata,
    *keys("mission", "task", "route"),
    *integers("round"),
    *bigints("fence"),
    *integers("seq"),  # counts the round's saves
    *integers("version"),  # of the agent
    *texts("value", null=True),  # JSON
    *texts("digest", null=True),  # of the body, which is too large to travel
    *blobs("body", null=True),  # JSON
    *floats("saved_at"),
)

results = Table(
    "results",
    metadata,
    *keys("mission", "task"),
    *keys("round", kind=Integer),
    *bigints("fence"),
    *texts("answer"),  # the ResultRef, as JSON
    *floats("recorded_at"),
    *bigints("claimed"),  # the highest fence by then
    # JSON; last, since it may be large and most readers want the rest alone.
    *texts("result"),
)

# What is too large to travel through Temporal, or to lie in a row that is read with
# others: see contracts/sizes.py.
payloads = Table(
    "payloads",
    metadata,
    *keys("mission"),  # or a batch
    *keys("digest"),  # sha256 of the body
    *blobs("body"),
)

effects = Table(
    "effects",
    metadata,
    *keys("tenant"),
    *keys("scope"),  # of the logical mission; "": the tenant
    *keys("key"),
    *keys("number", kind=Integer),  # above 1: allowed by a person
    *texts("state"),  # see ledger/effect_decision.py
    *texts("identity"),  # the content, as canonical JSON
    *texts("payload", null=True),  # what is sent, where that is not the content
    *texts("result", null=True),
    *texts("mission", "task"),
    *integers("round"),
    *texts("logical"),  # the mission's scope
    *texts("turn"),  # round, with those of the missions around
    *bigints("fence"),
    *integers("attempt"),
    Column("applied", Integer, nullable=False, default=0),
    Column("conflicts", Integer, nullable=False, default=0),
    *floats("intended_at"),
    *floats("deadline"),  # until when its attempt can last
    *floats("applied_at", null=True),
    *texts("settled_by", null=True),  # the person who said what had become of it
    *floats("settled_at", null=True),
    Index("effects_by_mission", "mission"),
)

# Of outside services that have ever failed: see ledger/circuit_decision.py.
circuits = Table(
    "circuits",
    metadata,
    *keys("tenant", "service"),
    *texts("circuit"),  # JSON
)

stale_writes = Table(
    "stale_writes",
    metadata,
    *keys("id", kind=Integer),
    *texts("mission", "task"),
    *bigints("fence"),
    *texts("what"),
    *floats("refused_at"),
    Index("stale_writes_by_mission", "mission"),
)

spending = Table(
    "spending", metadata, *keys("mission", "task"), *bigints("tokens"), *floats("cost")
)

batches = Table(
    "batches",
    metadata,
    *keys("id"),
    *texts("tenant", "role"),
    *texts("state"),  # see ledger/batches.py
    Column("closed", Boolean, nullable=False),  # no more items will come
    *integers("total"),  # also the number of the last item
    *floats("accepted_at"),
    *floats("finished_at", null=True),
)

items = Table(
    "items",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),  # from 1
    *blobs("digest"),  # the same item twice is one
    *texts("body"),  # JSON
    UniqueConstraint("batch", "digest"),
    sqlite_with_rowid=False,
)

item_results = Table(
    "item_results",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),
    *texts("result"),  # JSON
    *texts("degraded", null=True),
    sqlite_with_rowid=False,
)

# Items that failed or ended their process; those given up are dead letters.
item_failures = Table(
    "item_failures",
    metadata,
    *keys("batch"),
    *keys("item", kind=Integer),
    *integers("failures", "deaths"),
    *texts("cause"),
    *floats("dead_at", null=True),
    *texts("traceback", null=True),  # of the last failure, bounded
    sqlite_with_rowid=False,
)

# The log of the mesh, as the peer has it: several peers may share a store.
mesh_events = Table(
    "mesh_events",
    metadata,
    *keys("peer"),
    *keys("origin"),  # who wrote it, and in which incarnation
    *keys("seq", kind=BigInteger),
    *floats("at_s"),
    *texts("body"),  # JSON
)

# Of each origin, up to where the peer has its events, and up to where some of them were
# compacted away.
mesh_origins = Table(
    "mesh_origins", metadata, *keys("peer", "origin"), *bigints("head", "floor")
)
