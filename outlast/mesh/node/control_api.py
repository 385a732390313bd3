"""
What a peer answers to those who ask on its own machine.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_COPIES
from outlast.contracts.missions import Mission
from outlast.mesh.core.events import CheckpointSaved
from outlast.mesh.core.projection import MeshTask, Progressed
from outlast.mesh.node.control_socket import Request
from outlast.mesh.node.node import ENDPOINT_FACT, LOAD_FACT, PeerNode
from outlast.temporal.missions import with_routes


class ControlApi:
    """
    Answers for the peer in *shell*.
    """

    def __init__(self, shell: PeerNode) -> None:
        self._node = shell
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
        core, found = self._node.state_machine, {}
        for each in self._node.membership.members():
            facts = each.metadata
            found[each.name] = {
                "address": each.address,
                "endpoint": facts.get(ENDPOINT_FACT, ""),
                "load": int(facts.get(LOAD_FACT) or 0),
            }
        seen = core.snapshot()
        live = [
            {
                "peer": each.name,
                "state": "ready" if each.ready else "catching up",
                **found.get(each.name, {}),
                "roles": sorted(each.roles),
            }
            for each in seen.live
        ]
        away = set(seen.peers) - {each.name for each in seen.live}
        return {
            "peer": core.me.name,
            "members": live
            + [{"peer": name, "state": "away"} for name in sorted(away)],
        }

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
        seen, heard = core.snapshot(), self._node.membership.counts()
        return {
            "peer": core.me.name,
            "ready": seen.ready,
            "members": len(seen.live),
            "away": len(set(seen.peers) - {each.name for each in seen.live}),
            "events": seen.events,
            "open": len(core.state.open),
            "runs": self._node.endpoint.load,
            "refused": heard.pop("refused") + sum(seen.refused.values()),
            "unread": seen.unread,
            **heard,
            "high_water": dict(core.log.high_water),
        }


def task_summary(mesh_task: MeshTask) -> dict[str, Any]:
    """
    Say in short how a task stands.
    """
    result, adopted = mesh_task.result, mesh_task.adopted
    state = result.status.value if result else "running" if adopted else "waiting"
    owner = result.owner if result else adopted.owner if adopted else None
    epoch = result.epoch if result else adopted.epoch if adopted else 0
    return {"task": mesh_task.task, "state": state, "owner": owner, "epoch": epoch}


def task_details(mesh_task: MeshTask) -> dict[str, Any]:
    """
    Say all there is to say of a task: its progress, its one result, and what else was
    done for it.
    """
    evidence = [
        {"owner": each.owner, "epoch": each.epoch, "status": each.status.value}
        for each in mesh_task.superseded_results
    ]
    return {
        **task_summary(mesh_task),
        "parts": {
            name: _progress_json(part) for name, part in mesh_task.subtasks.items()
        },
        "report": mesh_task.result.report if mesh_task.result else None,
        "partition_members": mesh_task.result.partition_members
        if mesh_task.result
        else [],
        "evidence": sorted(evidence, key=lambda each: each["epoch"]),
    }


def _progress_json(part: Progressed) -> dict[str, Any]:
    if isinstance(part, CheckpointSaved):
        return {"epoch": part.epoch, "saves": part.checkpoint.seq, "done": False}
    return {"epoch": part.epoch, "done": True}
