"""
Kill a user's agent at every checkpoint and effect in turn, and hold its ends together.

Each trial is two real processes on one throw-away store: the first is ended by SIGKILL
at its point, the second goes on. The points are: after each save, after each effect
was intended and before it happened, and after it happened and before it was recorded.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from outlast.agents.agent import Agent
from outlast.agents.agent_check import fault_of_input
from outlast.agents.agent_loading import load_agents
from outlast.agents.worker_start import open_all
from outlast.contracts.approvals import Approval
from outlast.contracts.attempts import AttemptInput
from outlast.contracts.errors import BadInputError, TaskError
from outlast.contracts.tasks import Task
from outlast.execution.attempt import Attempt
from outlast.execution.findings import AgentFindings
from outlast.execution.worker_context import WorkerContext
from outlast.ledger.trial_ledger import PointKind, TrialLedger, TrialPoint
from outlast.process.event_loop import run_until_done
from outlast.process.programs import child_environment, module_command
from outlast.store.database import Store

TRIAL_MISSION = "crashtest"
TRIAL_LIMIT_S = 300.0

EFFECT_PREFIX = PointKind.INTENDED.format("")
# A trial whose effects nobody has approved: it must end by saying so.
AT_APPROVAL = -1


class Trial(BaseModel):
    """
    How an agent ended in one trial's process: what it returned, where it could have
    been killed, and the mistakes that were seen.
    """

    killed: bool = False
    result: JsonValue = None
    error: str | None = None
    points: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def crashtest(target: str, given: Path) -> int:
    """
    Print how the agent *target* (MODULE:ROLE) ends from every point, and the mistakes
    that were seen; 1 if there are any, or if an end differs.

    :raises BadInputError: when there is no such agent or its input is no JSON object.
    """
    fault = fault_of_input(_find(target), _read(given))
    if fault is not None:
        raise BadInputError(f"{given} does not fit {target}: {fault}; mend the file")
    clean = _trial(target, given, None)
    if clean.error:
        found = "".join(f"; {each}" for each in clean.findings)
        raise BadInputError(
            f"without any kill the agent fails: {clean.error}{found}; mend that first"
        )
    print(f"{'never killed':<44} ok   {_short(clean.result)}")
    differing = 0
    findings = [*clean.findings]
    if any(point.startswith(EFFECT_PREFIX) for point in clean.points):
        findings += _trial(target, given, AT_APPROVAL).findings
    for number, point in enumerate(clean.points, 1):
        ended = _trial(target, given, number)
        same = ended.result == clean.result and not ended.error
        differing += not same
        findings += ended.findings
        told = "" if same else ended.error or _short(ended.result)
        print(f"killed {point:<37} {'same' if same else 'DIFFERS'} {told}".rstrip())
    print(f"{len(clean.points)} kills, {differing} ends that differ")
    for finding in dict.fromkeys(findings):
        print(f"mistake: {finding}")
    if not clean.points:
        print("the agent saves nothing and has no effects: a kill starts it anew")
    return int(differing > 0 or bool(findings))


def _trial(target: str, given: Path, point: int | None) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store.db")
        if point == AT_APPROVAL:
            return _run(target, given, store, "1", str(AT_APPROVAL))
        if point is not None:
            first = _run(target, given, store, "1", str(point))
            if not first.killed:
                return Trial(error=f"it never came to point {point} again")
        return _run(target, given, store, "2", "0")


def _run(target: str, given: Path, *rest: str) -> Trial:
    command = [*module_command("outlast.cli.crashtest"), target, str(given), *rest]
    ended = subprocess.run(
        command,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=TRIAL_LIMIT_S,
        check=False,
    )
    if ended.returncode == -signal.SIGKILL:
        return Trial(killed=True)
    try:
        return Trial.model_validate(json.loads(ended.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        return Trial(error=f"exit code {ended.returncode}: {ended.stderr[-300:]}")


async def _attempt(
    agent: Agent, given: dict[str, Any], store: Path, fence: int, deadly: int
) -> Trial:
    await open_all()
    findings = AgentFindings(agent)

    def reached(points: list[TrialPoint]) -> None:
        if len(points) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    ledger = TrialLedger(Store(store), reached)
    task = Task(id=agent.role, role=agent.role, input=given)
    if deadly == AT_APPROVAL:
        task = task.model_copy(update={"approval": Approval(before="effect")})
    assignment = AttemptInput(
        mission=TRIAL_MISSION, tenant="default", task=task, policy=agent.policy
    )
    attempt = Attempt(findings.agent, assignment, fence, WorkerContext(ledger))
    error: str | None = None
    try:
        async with findings:
            await attempt.run([])
    except TaskError as end:
        error = f"{type(end).__name__}: {end}"
    found = ledger.result(TRIAL_MISSION, agent.role)
    return Trial(
        result=found[1] if found and not error else None,
        error=error,
        points=tuple(map(str, ledger.points)),
        findings=tuple(findings.sentences),
    )


def _find(target: str) -> Agent:
    module, _, role = target.rpartition(":")
    if not module:
        raise BadInputError(
            f"{target!r} is not MODULE:AGENT, like examples/refunds.py:refunds"
        )
    agents = load_agents([module])
    named = [each for each in agents.values() if role in (each.role, _name(each))]
    if not named:
        raise BadInputError(
            f"{module} has no agent {role!r}: name one of {', '.join(agents)}"
        )
    return named[0]


def _name(agent: Agent) -> str:
    return str(getattr(agent.func, "__name__", ""))


def _read(given: Path) -> dict[str, Any]:
    try:
        value = json.loads(given.read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{given} is no JSON input: {error}; give a file of JSON"
        ) from None
    if not isinstance(value, dict):
        raise BadInputError(f'{given} must hold one JSON object, as in {{"order": 17}}')
    return value


def _short(value: JsonValue) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


def main(target: str, given: str, store: str, fence: str, deadly: str) -> None:
    agent, value = _find(target), _read(Path(given))
    trial = run_until_done(_attempt(agent, value, Path(store), int(fence), int(deadly)))
    print(json.dumps(trial.model_dump()), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
