"""
What an effect is: its key, its identity and its payload, checked before anything is
written.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from outlast.contracts.errors import GiveUp
from outlast.contracts.text import sha256_hex
from outlast.secrets import masked

IfUnsure = Literal["repeat", "park"]
ScopeName = Literal["mission", "tenant"]

# A key is part of a database's index, an identity is shown to people and compared; a
# payload is only kept.
EFFECT_KEY_BYTES = 500
IDENTITY_BYTES = 16 * 1024
EFFECT_PAYLOAD_BYTES = 256 * 1024
EFFECT_CHARS = 80

# A NUL as JSON escapes it, unless the backslash before it is escaped itself.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True)
class Proposal:
    """
    The effect that an attempt asks for.

    :param identity: the content, as canonical JSON.
    :param payload: what is sent, as JSON; None where that is the content.
    """

    key: str
    identity: str = "null"
    payload: str | None = None
    if_unsure: IfUnsure = "park"
    scope: ScopeName = "mission"


def propose(
    key: str,
    content: JsonValue,
    payload: JsonValue,
    if_unsure: IfUnsure,
    scope: ScopeName,
) -> Proposal:
    """
    Put an effect in its canonical form.

    :raises GiveUp: when it cannot be kept: the same would be refused every time.
    """
    if if_unsure not in ("repeat", "park"):
        raise GiveUp(f"if_unsure is {if_unsure!r}; say 'repeat' or 'park'")
    if scope not in ("mission", "tenant"):
        raise GiveUp(f"scope is {scope!r}; say 'mission' or 'tenant'")
    named = f"effect {masked(checked_key(key), EFFECT_CHARS)!r}"
    identity = canonical(content, f"the content of {named}", IDENTITY_BYTES)
    sent = None
    if payload is not None:
        sent = canonical(payload, f"the payload of {named}", EFFECT_PAYLOAD_BYTES)
    return Proposal(key, identity, sent, if_unsure, scope)


def checked_key(key: str) -> str:
    """
    Return *key* if it can be kept.

    :raises GiveUp: when it cannot.
    """
    if not isinstance(key, str) or not key:
        raise GiveUp(
            f"the key of an effect is {masked(repr(key), EFFECT_CHARS)}: give "
            "it a text that names the effect"
        )
    what = f"the key {masked(key, EFFECT_CHARS)!r} of an effect"
    advice = "put what tells it from others into content="
    _require_storable(key, what, "\0" in key, EFFECT_KEY_BYTES, advice)
    return key


def canonical(value: JsonValue, what: str, most: int) -> str:
    """
    Write *value* as JSON in the one way in which equal values are equal texts.

    :raises GiveUp: when it is no JSON, cannot be kept or is over *most* bytes.
    """
    try:
        text = json.dumps(
            value,
            sort_keys=True,
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        why = masked(str(error), EFFECT_CHARS)
        raise GiveUp(
            f"{what} is no JSON ({why}): give plain values, such as "
            "model_dump(mode='json') makes"
        ) from None
    advice = "give what tells it from others, and where the rest lies"
    _require_storable(text, what, bool(ESCAPED_NUL.search(text)), most, advice)
    return text


def _require_storable(
    text: str, what: str, has_nul: bool, most: int, advice: str
) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise GiveUp(
            f"{what} holds half a character (a surrogate), which cannot be kept: "
            "replace it"
        ) from None
    if has_nul:
        raise GiveUp(f"{what} holds a NUL, which cannot be kept: replace it")
    if size > most:
        raise GiveUp(f"{what} has {size} bytes, over the cap of {most}: {advice}")


def effect_mark(scope: str, key: str, identity: str, payload: str | None) -> str:
    """
    Fingerprint what a person approves: one key, identity and payload.
    """
    return sha256_hex(json.dumps([scope, key, identity, payload]))[:32]
