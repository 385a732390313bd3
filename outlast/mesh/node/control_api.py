"""
What a peer answers to requests on its own machine.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_COPIES
from outlast.contracts.missions import Mission
from outlast.contracts.wire import WireModel
from outlast.mesh.core.events import CheckpointSaved, Progressed
from outlast.mesh.core.projection import MeshTask
from outlast.mesh.node.membership import MemberInfo
from outlast.mesh.node.node import PeerNode
from outlast.temporal.missions import with_routes


class SubmitRequest(WireModel):
    ask: Literal["submit"]
    mission: Mission
    copies: int = MESH_COPIES


class StatusRequest(WireModel):
    ask: Literal["status"]
    task: str | None = None


class ForgetRequest(WireModel):
    ask: Literal["forget"]
    peer: str


class PlainRequest(WireModel):
    ask: Literal["members", "counts"]


ControlRequest = SubmitRequest | StatusRequest | ForgetRequest | PlainRequest
_requests: TypeAdapter[ControlRequest] = TypeAdapter(
    Annotated[ControlRequest, Field(discriminator="ask")]
)


class ControlApi:
    """
    Answers for the peer of *node*.
    """

    def __init__(self, node: PeerNode) -> None:
        self._node = node

    async def handle(self, raw: Any) -> Any:
        """
        Answer one request.

        :raises BadInputError: when it cannot be answered, in one sentence.
        """
        try:
            request = _requests.validate_python(raw)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "request"
            raise BadInputError(
                f"a peer cannot answer this: {where}: {fault['msg']}"
            ) from None
        match request:
            case SubmitRequest():
                return await self._submit(request)
            case StatusRequest(task=task):
                return self._status(task)
            case ForgetRequest(peer=peer):
                await self._node.forget(peer)
                return {"forgotten": peer}
            case PlainRequest(ask="members"):
                return self._members()
            case PlainRequest():
                return self._counts()

    async def _submit(self, request: SubmitRequest) -> dict[str, Any]:
        mission, asked = request.mission, request.copies
        ended = self._node.state_machine.state.of(mission.id).result
        copies = await self._node.submit(with_routes(mission), asked)
        told = {"task": mission.id, "copies": copies, "asked": asked}
        return {**told, "ended": ended.status.value} if ended else told

    def _members(self) -> dict[str, Any]:
        core = self._node.state_machine
        found = {each.name: each for each in self._node.membership.members()}
        live = [
            {
                "peer": each.name,
                "state": "ready" if each.ready else "catching up",
                **(_where(found[each.name]) if each.name in found else {}),
                "roles": sorted(each.roles),
            }
            for each in core.live
        ]
        away = [{"peer": name, "state": "away"} for name in core.away]
        return {"peer": core.me.name, "members": [*live, *away]}

    def _status(self, task: str | None) -> Any:
        tasks = self._node.state_machine.state.tasks
        if task is None:
            return [task_summary(tasks[name]) for name in sorted(tasks)]
        if task not in tasks:
            raise BadInputError(
                f"the mesh knows no task {task!r}: outlast mesh status lists all"
            )
        return task_details(tasks[task])

    def _counts(self) -> dict[str, Any]:
        core = self._node.state_machine
        counts = self._node.membership.counts()
        return {
            "peer": core.me.name,
            "ready": core.me.ready,
            "members": len(core.live),
            "away": len(core.away),
            "events": len(core.log),
            "open": len(core.state.open),
            "runs": self._node.endpoint.load,
            "refused": counts.pop("refused") + sum(core.refused.values()),
            "unread": core.state.unread,
            **counts,
            "high_water": dict(core.log.high_water),
        }


def _where(member: MemberInfo) -> dict[str, Any]:
    said = member.said
    return {"address": member.address, "endpoint": said.endpoint, "load": said.load}


def task_summary(mesh_task: MeshTask) -> dict[str, Any]:
    """
    The state of a task in short: its owner is that of its result, if it has one.
    """
    result, adopted = mesh_task.result, mesh_task.adopted
    state = result.status.value if result else "running" if adopted else "waiting"
    last = result or adopted
    return {
        "task": mesh_task.task,
        "state": state,
        "owner": last.owner if last else None,
        "epoch": last.epoch if last else 0,
    }


def task_details(mesh_task: MeshTask) -> dict[str, Any]:
    """
    All there is to say of a task: its progress, its one result, and what else was
    done for it.
    """
    result = mesh_task.result
    evidence = [
        {"owner": each.owner, "epoch": each.epoch, "status": each.status.value}
        for each in mesh_task.superseded_results
    ]
    return {
        **task_summary(mesh_task),
        "parts": {name: _reached(part) for name, part in mesh_task.subtasks.items()},
        "report": result.report if result else None,
        "partition_members": result.partition_members if result else [],
        "evidence": sorted(evidence, key=lambda each: each["epoch"]),
    }


def _reached(part: Progressed) -> dict[str, Any]:
    if isinstance(part, CheckpointSaved):
        return {"epoch": part.epoch, "saves": part.checkpoint.seq, "done": False}
    return {"epoch": part.epoch, "done": True}
