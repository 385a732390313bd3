"""
What a peer answers to requests on its own machine.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_COPIES
from outlast.contracts.missions import Mission
from outlast.mesh.core.events import CheckpointSaved, Progressed
from outlast.mesh.core.projection import MeshTask
from outlast.mesh.node.control_socket import Request
from outlast.mesh.node.membership import MemberInfo
from outlast.mesh.node.node import PeerNode
from outlast.temporal.missions import with_routes


class ControlApi:
    """
    Answers for the peer of *node*.
    """

    def __init__(self, node: PeerNode) -> None:
        self._node = node
        self._known: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "submit": self._submit,
            "members": self._members,
            "status": self._status,
            "forget": self._forget,
            "counts": self._counts,
        }

    async def handle(self, request: Request) -> Any:
        """
        Answer one request.

        :raises BadInputError: when it cannot be answered, in one sentence.
        """
        asked = request.get("ask")
        if asked not in self._known:
            raise BadInputError(f"a peer does not know how to {asked!r}")
        return await self._known[asked](request)

    async def _submit(self, request: Request) -> Any:
        try:
            mission = Mission.model_validate(request["mission"])
        except ValidationError as error:
            raise BadInputError(f"no mission: {error.errors()[0]['msg']}") from None
        asked = int(request.get("copies", MESH_COPIES))
        ended = self._node.state_machine.state.of(mission.id).result
        copies = await self._node.submit(with_routes(mission), asked)
        told = {"task": mission.id, "copies": copies, "asked": asked}
        return {**told, "ended": ended.status.value} if ended else told

    async def _members(self, request: Request) -> Any:
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

    async def _status(self, request: Request) -> Any:
        tasks, task = self._node.state_machine.state.tasks, request.get("task")
        if task is None:
            return [task_summary(tasks[name]) for name in sorted(tasks)]
        if task not in tasks:
            raise BadInputError(f"the mesh knows no task {task!r}")
        return task_details(tasks[task])

    async def _forget(self, request: Request) -> Any:
        await self._node.forget(str(request["peer"]))
        return {"forgotten": request["peer"]}

    async def _counts(self, request: Request) -> Any:
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
