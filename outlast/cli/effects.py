"""
List effects, and record what became of one that may have happened.
"""

import getpass
import json
import shlex
import socket
import time
from contextlib import suppress
from dataclasses import asdict

from pydantic import JsonValue

from outlast.cli.session import Session
from outlast.contracts.errors import BadInputError
from outlast.contracts.text import one_line
from outlast.ledger.effect_records import EffectRecord, EffectRecords
from outlast.process.called import tell

EFFECT_LINE_CHARS = 120
MAX_EFFECT_RESULT_BYTES = 64 * 1024


def show_effects(session: Session, mission: str | None, as_json: bool) -> None:
    entries = EffectRecords(session.store).records(mission)
    if mission and not entries and session.missions.find(mission) is None:
        session.require_batch(mission)
    if as_json:
        told = [{**asdict(each), "unsure": each.is_unknown} for each in entries]
        print(json.dumps(told, ensure_ascii=False))
        return
    for each in entries:
        for line in lines(each):
            tell(line)
    if not entries:
        print("no effects")


def lines(entry: EffectRecord) -> list[str]:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.intended_at))
    who = f"{entry.mission}/{entry.task} round {entry.turn} attempt {entry.attempt}"
    told = [
        f"{at}  {_state(entry):<9} {one_line(entry.key, EFFECT_LINE_CHARS)}  "
        f"{one_line(entry.content, EFFECT_LINE_CHARS)}",
        f"    by {who}, scope {entry.scope or f'tenant {entry.tenant}'}",
    ]
    if entry.settled_by is not None and entry.settled_at is not None:
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.settled_at))
        told.append(f"    settled by {entry.settled_by} at {then}")
    if entry.is_unknown:
        settle = f"outlast settle {shlex.quote(entry.key)} --mission {entry.mission}"
        told.append(f"    find out, then: {settle} --happened RESULT")
        told.append(f"    or: {settle} --did-not-happen")
    return told


def settle_effect(
    session: Session,
    key: str,
    mission: str | None,
    happened: str | None,
    did_not_happen: bool,
) -> None:
    """
    Record whether an unsure effect has happened, and say how its task goes on.

    :raises BadInputError: when it is not unsure, or both or neither was said.
    """
    if (happened is None) != did_not_happen:
        raise BadInputError("say --happened RESULT, or --did-not-happen")
    result = None if happened is None else read_result(happened)
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    records = EffectRecords(session.store)
    entry = records.record_decision(key, mission, happened is not None, result, who)
    word = "did not happen" if did_not_happen else "happened"
    print(f"effect {one_line(key, EFFECT_LINE_CHARS)!r} {word}, says {who}")
    tell(f"go on with: outlast redrive {entry.mission} --task {entry.task}")


def read_result(text: str) -> JsonValue:
    """
    Read what an effect returned: JSON, or else a text.

    :raises BadInputError: when it cannot be kept.
    """
    if len(text.encode(errors="replace")) > MAX_EFFECT_RESULT_BYTES:
        raise BadInputError(
            f"the result is over the cap of {MAX_EFFECT_RESULT_BYTES} bytes: give what "
            "identifies it instead"
        )
    value: JsonValue = text
    with suppress(ValueError, RecursionError):
        value = json.loads(text, parse_constant=_refused)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInputError("the result holds half a character: replace it") from None
    return value


def _refused(constant: str) -> JsonValue:
    raise ValueError(constant)  # NaN and the infinities are a text then


def _state(entry: EffectRecord) -> str:
    return "unsure" if entry.is_unknown else entry.state
