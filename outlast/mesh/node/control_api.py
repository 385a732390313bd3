"""
What a peer answers to those who ask on its own machine.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from outlast.contracts.errors import BadInputError
from outlast.contracts.models import Mission
from outlast.contracts.policies import MESH_COPIES
from outlast.mesh.core.events import CheckpointSaved
from outlast.mesh.core.projection import Progressed, Standing
from outlast.mesh.node.control_socket import Request
from outlast.mesh.node.node import ENDPOINT, LOAD, Shell
from outlast.temporal.missions import resolve


class Desk:
    """
    Answers for the peer in *shell*.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._known: dict[str, Callable[[Request], Awaitable[Any]]] = {
            "submit": self._submit,
            "members": self._members,
            "status": self._status,
            "forget": self._forget,
            "counts": self._counts,
        }

    async def answer(self, request: Request) -> Any:
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
        ended = self._shell.core.view.of(mission.id).result
        copies = await self._shell.submit(resolve(mission), asked)
        told = {"task": mission.id, "copies": copies, "asked": asked}
        return {**told, "ended": ended.status.value} if ended else told

    async def _members(self, request: Request) -> Any:
        core, found = self._shell.core, {}
        for each in self._shell.membership.members():
            facts = each.facts
            found[each.name] = {
                "address": each.address,
                "endpoint": facts.get(ENDPOINT, ""),
                "load": int(facts.get(LOAD) or 0),
            }
        seen = core.seen()
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
        tasks, task = self._shell.core.view.tasks, request.get("task")
        if task is None:
            return [brief(tasks[name]) for name in sorted(tasks)]
        if task not in tasks:
            raise BadInputError(f"the mesh knows no task {task!r}")
        return whole(tasks[task])

    async def _forget(self, request: Request) -> Any:
        await self._shell.forget(str(request["peer"]))
        return {"forgotten": request["peer"]}

    async def _counts(self, request: Request) -> Any:
        core = self._shell.core
        seen, heard = core.seen(), self._shell.membership.counts()
        return {
            "peer": core.me.name,
            "ready": seen.ready,
            "members": len(seen.live),
            "away": len(set(seen.peers) - {each.name for each in seen.live}),
            "events": seen.events,
            "open": len(core.view.open),
            "runs": self._shell.endpoint.load,
            "refused": heard.pop("refused") + sum(seen.refused.values()),
            "unread": seen.unread,
            **heard,
            "heads": dict(core.log.heads),
        }


def brief(standing: Standing) -> dict[str, Any]:
    """
    Say in short how a task stands.
    """
    result, adopted = standing.result, standing.adopted
    state = result.status.value if result else "running" if adopted else "waiting"
    owner = result.owner if result else adopted.owner if adopted else None
    epoch = result.epoch if result else adopted.epoch if adopted else 0
    return {"task": standing.task, "state": state, "owner": owner, "epoch": epoch}


def whole(standing: Standing) -> dict[str, Any]:
    """
    Say all there is to say of a task: its progress, its one result, and what else was
    done for it.
    """
    evidence = [
        {"owner": each.owner, "epoch": each.epoch, "status": each.status.value}
        for each in standing.evidence
    ]
    return {
        **brief(standing),
        "parts": {name: _reached(part) for name, part in standing.parts.items()},
        "report": standing.result.report if standing.result else None,
        "knew": standing.result.knew if standing.result else [],
        "evidence": sorted(evidence, key=lambda each: each["epoch"]),
    }


def _reached(part: Progressed) -> dict[str, Any]:
    if isinstance(part, CheckpointSaved):
        return {"epoch": part.epoch, "saves": part.checkpoint.seq, "done": False}
    return {"epoch": part.epoch, "done": True}
