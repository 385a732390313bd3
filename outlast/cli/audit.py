"""
Check the ledger's guarantees, and the ledger against the server where it answers.
"""

import json
from dataclasses import asdict
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from outlast.cli.entrypoint import EXIT_FAILED
from outlast.cli.session import Session
from outlast.contracts.errors import UnavailableError
from outlast.contracts.text import one_line
from outlast.ledger.audit import Audit, audit_ledger
from outlast.process.called import tell
from outlast.temporal.workflow_state import interrupted

AUDIT_KEY_CHARS = 120
HISTORY_EVENTS = 10_240
HISTORY_BYTES = 10 * 1024 * 1024


async def show_audit(session: Session, mission: str | None, as_json: bool) -> int:
    if mission is not None:
        session.require_mission(mission)
    await session.reconcile(*([mission] if mission else []))
    audit = audit_ledger(session.store, mission)
    audit.violations += await _check_server(session, audit, mission)
    if as_json:
        print(json.dumps(asdict(audit)))
    else:
        _print(audit)
    return EXIT_FAILED if audit.violations else 0


async def _check_server(
    session: Session, audit: Audit, mission: str | None
) -> list[str]:
    """
    Check what only the server knows: whether open missions run, how long histories
    are. A server that does not answer proves nothing either way.
    """
    if not audit.open and mission is None:
        return []
    try:
        client = await session.client()
        wanted = [mission] if mission else audit.open
        found = [await _check(client, each, each in audit.open) for each in wanted]
    except (UnavailableError, RPCError):
        return []
    return [violation for each in found for violation in each]


async def _check(client: Client, mission: str, is_open: bool) -> list[str]:
    try:
        described = await client.get_workflow_handle(mission).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and is_open:
            return [f"{mission} was accepted and the server does not know it"]
        if error.status is RPCStatusCode.NOT_FOUND:
            return []
        raise
    broken = []
    if is_open and described.status is not WorkflowExecutionStatus.RUNNING:
        broken.append(f"{mission} was accepted and ended without a report")
    if described.history_length > HISTORY_EVENTS:
        broken.append(f"{mission} has {described.history_length} events of history")
    if described.raw_info.history_size_bytes > HISTORY_BYTES:
        broken.append(f"{mission} has a history of over {HISTORY_BYTES} bytes")
    return broken


def _print(audit: Audit) -> None:
    print(
        f"accepted {audit.accepted}: finished {audit.finished}, parked {audit.parked}, "
        f"open {len(audit.open)}, interrupted {len(audit.interrupted)}; "
        f"dead letters {audit.dead_lettered}"
    )
    for entry in audit.interrupted:
        tell(f"interrupted: {interrupted(entry.id, entry.interruption)}")
    print(f"attempts {audit.attempts}, stale writes refused {audit.stale_refused}")
    for line in effect_lines(audit.effects):
        print(line)
    for violation in audit.violations:
        print(f"BROKEN: {violation}")


def effect_lines(effects: list[dict[str, Any]]) -> list[str]:
    """
    Count the effects that were applied once, and name each of the others.
    """
    others = [each for each in effects if not _is_plain(each)]
    once = sum(each["applied"] == 1 for each in effects)
    if not others:
        return [f"effects {len(effects)}: each applied once"] if effects else []
    return [f"effects {len(effects)}: {once} applied once", *map(_effect, others)]


def _is_plain(effect: dict[str, Any]) -> bool:
    return (effect["applied"], effect["conflicts"]) == (1, 0)


def _effect(effect: dict[str, Any]) -> str:
    conflicts = effect["conflicts"]
    other = f", other content refused {conflicts} times" if conflicts else ""
    told = f"{effect['state']}, applied {effect['applied']}"
    who = f"{effect['mission']}/{effect['task']}"
    return (
        f"  effect {one_line(effect['key'], AUDIT_KEY_CHARS)} of {who}: {told}{other}"
    )
