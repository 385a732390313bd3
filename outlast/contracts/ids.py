"""
Every name and id: what users may choose, what is composed of it, how that is read back.

A composed id is BASE~KIND~ARGUMENT..., and no name holds a `~`: so no composed id
equals a name, or an id of another kind. Here alone ids are composed (`str`) and read
(`parse`). All of them can be pasted into a shell and stand in a URL as they are.

| Kind              | For example                                          |
| ----------------- | ---------------------------------------------------- |
| `ChildMissionId`  | `trip~child~hotel`, its second round ...`~hotel~2`   |
| `FanOutId`        | `trip~fanout~hotel`, its second round ...`~hotel~2`  |
| `MeshRunId`       | `trip~run~3`                                         |
| `TaskRoundId`     | `trip~round~hotel~1`                                 |
| `AttemptId`       | `hotel~attempt~booker~3`                             |
| `ScopePath`       | `trip`, `trip~task~hotel`                            |
| `BatchScopePath`  | `orders~batch`                                       |
| `EffectId`        | `acme~effect~trip~key~pay`, `acme~tenant~again~2~pay`|
| `LeaseId`         | `lease~17`, `quarantine~17`                          |
| `ItemId`          | `item~000000017`                                     |
| `QueueId`         | `outlast~role~booker`                                |
| `LeaseActivityId` | `booker~lease`                                       |
| `OriginId`        | `peer~log~1764`                                      |
| `WorkerIdentity`  | `4711@task_activity:agents`, as Temporal's own                |
"""

import re
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import StringConstraints

SEPARATOR = "~"
MISSIONS_QUEUE = "outlast-missions"

NAME_CHARS = 100
# The longest id that a Temporal server takes by default.
ID_CHARS = 1_000
# The longest that a round and an epoch take in an id.
ROUND_CHARS, RUN_CHARS = 8, 16
# A mission's id leaves room for that of a task's fan-out.
MISSION_ID_CHARS = ID_CHARS - len("~fanout~") - NAME_CHARS - ROUND_CHARS

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# A mission has the id of its workflow. A Schedule's ends in a time, with colons.
_MISSION_NAME = r"[A-Za-z0-9][A-Za-z0-9._:-]*"
_COUNT = r"(?:[1-9][0-9]{0,18})"
_AFTER_ONE = r"(?:[2-9]|[1-9][0-9]{1,18})"
_MISSION = rf"{_MISSION_NAME}(?:~run~{_COUNT})?(?:~child~{_NAME}(?:~{_AFTER_ONE})?)*"
_FAN_OUT = rf"~fanout~{_NAME}(?:~{_AFTER_ONE})?"
_SCOPE = rf"{_MISSION_NAME}(?:~task~{_NAME})*"

NAME_PATTERN = f"^{_NAME}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_CHARS)]
# What users call their missions and batches.
MissionName = Annotated[
    str, StringConstraints(pattern=f"^{_MISSION_NAME}$", max_length=NAME_CHARS)
]
MissionId = Annotated[
    str, StringConstraints(pattern=f"^{_MISSION}$", max_length=MISSION_ID_CHARS)
]
BatchId = Annotated[
    str,
    StringConstraints(
        pattern=f"^(?:{_MISSION_NAME}|{_MISSION}{_FAN_OUT})$", max_length=ID_CHARS
    ),
]
# Of a mission or a batch: both are workflows.
WorkId = Annotated[
    str,
    StringConstraints(pattern=f"^{_MISSION}(?:{_FAN_OUT})?$", max_length=ID_CHARS),
]


def _later(round_: int) -> str:
    return "" if round_ == 1 else f"~{round_}"


class ChildMissionId(NamedTuple):
    """
    The mission that a round of *task* of *mission* is.
    """

    mission: str
    task: str
    round: int = 1

    def __str__(self) -> str:
        return f"{self.mission}~child~{self.task}{_later(self.round)}"


class FanOutId(NamedTuple):
    """
    The batch that a round of *task* of *mission* hands to the pool.
    """

    mission: str
    task: str
    round: int = 1

    def __str__(self) -> str:
        return f"{self.mission}~fanout~{self.task}{_later(self.round)}"


class MeshRunId(NamedTuple):
    """
    The mission as which the mesh's task *task* is run by its owner in *epoch*.
    """

    task: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.task}~run~{self.epoch}"


class TaskRoundId(NamedTuple):
    """
    One round of a task, the same on all its attempts.
    """

    work: str
    task: str
    round: int

    def __str__(self) -> str:
        return f"{self.work}~round~{self.task}~{self.round}"


class AttemptId(NamedTuple):
    """
    A dispatch of *task* to *route*, in the history of its mission.
    """

    task: str
    route: str
    dispatch: int

    def __str__(self) -> str:
        return f"{self.task}~attempt~{self.route}~{self.dispatch}"


class ScopePath(NamedTuple):
    """
    The scope of what *task* makes within *scope*, that of a root mission is its name:
    without rounds and runs.
    """

    scope: str
    task: str

    def __str__(self) -> str:
        return f"{self.scope}~task~{self.task}"


class BatchScopePath(NamedTuple):
    """
    The scope of a batch that no mission has made.
    """

    batch: str

    def __str__(self) -> str:
        return f"{self.batch}~batch"


class EffectId(NamedTuple):
    """
    An effect, for the far side: the same over all attempts.

    :param key: an agent's own text.
    :param scope: the path of its scope, "" for the tenant's own.
    :param number: counts the identities that the key has had.
    """

    tenant: str
    key: str
    scope: str = ""
    number: int = 1

    def __str__(self) -> str:
        where = f"effect~{self.scope}" if self.scope else "tenant"
        which = "key" if self.number == 1 else f"again~{self.number}"
        return f"{self.tenant}~{where}~{which}~{self.key}"


class LeaseId(NamedTuple):
    """
    A lease in the ledger; the item that runs alone is no rival to the rest.
    """

    start: int
    kind: Literal["lease", "quarantine"] = "lease"

    def __str__(self) -> str:
        return f"{self.kind}~{self.start}"


class ItemId(NamedTuple):
    """
    An item in the ledger: ids are in the order of numbers.
    """

    number: int

    def __str__(self) -> str:
        return f"item~{self.number:09d}"


class QueueId(NamedTuple):
    """
    The task queue on which workers take what is of one *kind* for *role*.
    """

    kind: Literal["role", "leases", "quarantine"]
    role: str

    def __str__(self) -> str:
        return f"outlast~{self.kind}~{self.role}"


class LeaseActivityId(NamedTuple):
    """
    The type of the activity that works through the leases of *role*.
    """

    role: str

    def __str__(self) -> str:
        return f"{self.role}~lease"


class OriginId(NamedTuple):
    """
    One life of *peer*: a process that returns with an old log, or with none, must not
    give a number away that another event of its name has.
    """

    peer: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.peer}~log~{self.incarnation}"


class WorkerIdentity(NamedTuple):
    """
    A process, as the server lists it.
    """

    pid: int
    host: str
    kind: str

    def __str__(self) -> str:
        return f"{self.pid}@{self.host}:{self.kind}"


_ORIGIN = rf"(?P<peer>{_NAME})~log~(?P<incarnation>{_COUNT})"

Origin = Annotated[str, StringConstraints(pattern=f"^{_ORIGIN}$", max_length=130)]

_IN_POOL = r"(?:item|lease|quarantine)~[0-9]{1,18}"
_ROUND = rf"(?:~(?P<round>{_AFTER_ONE}))?"
_FORMS = {
    ChildMissionId: rf"(?P<mission>{_MISSION})~child~(?P<task>{_NAME}){_ROUND}",
    FanOutId: rf"(?P<mission>{_MISSION})~fanout~(?P<task>{_NAME}){_ROUND}",
    MeshRunId: rf"(?P<task>{_MISSION_NAME})~run~(?P<epoch>{_COUNT})",
    TaskRoundId: rf"(?P<work>{_MISSION}(?:{_FAN_OUT})?)"
    rf"~round~(?P<task>{_NAME}|{_IN_POOL})~(?P<round>{_COUNT})",
    AttemptId: rf"(?P<task>{_NAME})~attempt~(?P<route>{_NAME})~(?P<dispatch>{_COUNT})",
    ScopePath: rf"(?P<scope>{_SCOPE})~task~(?P<task>{_NAME})",
    BatchScopePath: rf"(?P<batch>{_MISSION_NAME})~batch",
    EffectId: rf"(?P<tenant>{_NAME})~(?:tenant|effect~(?P<scope>{_SCOPE}(?:~batch)?))"
    rf"~(?:key|again~(?P<number>{_AFTER_ONE}))~(?P<key>.*)",
    LeaseId: rf"(?P<kind>lease|quarantine)~(?P<start>{_COUNT})",
    ItemId: r"item~(?P<number>[0-9]{9,18})",
    QueueId: rf"outlast~(?P<kind>role|leases|quarantine)~(?P<role>{_NAME})",
    LeaseActivityId: rf"(?P<role>{_NAME})~lease",
    OriginId: _ORIGIN,
    WorkerIdentity: r"(?P<pid>[0-9]+)@(?P<host>[^@]*):(?P<kind>[^:]+)",
}
_PATTERNS = {kind: re.compile(form, re.DOTALL) for kind, form in _FORMS.items()}
_NUMBERS = {"round", "epoch", "dispatch", "number", "start", "incarnation", "pid"}
_MESH_RUN = re.compile(rf"{_MISSION_NAME}~run~{_COUNT}(?=~|$)")

T = TypeVar("T")


def parse(kind: type[T], text: str) -> T | None:
    """
    Read an id back; None where *text* is none of this *kind*.
    """
    found = _PATTERNS[kind].fullmatch(text)
    if found is None:
        return None
    given = found.groupdict().items()
    return kind(
        **{n: int(v) if n in _NUMBERS else v for n, v in given if v is not None}
    )


def require_name(id_: str, is_users: bool) -> None:
    """
    Refuse a composed id where a user names a mission or batch.

    :raises ValueError: as validators of models do.
    """
    if is_users and (SEPARATOR in id_ or len(id_) > NAME_CHARS):
        raise ValueError(
            f"an id has up to {NAME_CHARS} letters, digits and '._:-', and no "
            f"'{SEPARATOR}', of which Outlast composes ids: choose another one"
        )


def mesh_run_of(work: str) -> str | None:
    """
    Find the run of the mesh that *work* is or lies within; None where it is in none.
    """
    found = _MESH_RUN.match(work)
    return found[0] if found else None


def is_too_long(mission: str) -> bool:
    """
    Say whether the id of a child mission is longer than the server takes, or would be
    in a later round of any of the tasks that lead to it.
    """
    chars = RUN_CHARS
    while child := parse(ChildMissionId, mission):
        chars += len(f"~child~{child.task}") + ROUND_CHARS
        mission = child.mission
    run = parse(MeshRunId, mission)
    return chars + len(run.task if run else mission) > MISSION_ID_CHARS


def task_queue(role: str) -> str:
    return str(QueueId("role", role))


def lease_queue(role: str) -> str:
    return str(QueueId("leases", role))


def quarantine_queue(role: str) -> str:
    return str(QueueId("quarantine", role))
