"""
Why a value would not come back from JSON, in sentences that name the field.
"""

from typing import Any

import pydantic_core
from pydantic import ValidationError

from outlast.contracts.validation_faults import faults_of
from outlast.execution.differences import Difference, children


def lost(value: Any, found: Difference) -> str:
    where = _where(value, found.path)
    given, back = type(found.given).__name__, type(found.back).__name__
    if given.startswith("Secret"):
        return (
            f"{where} is a {given}, which is written as asterisks: keep the secret's "
            "name and read it with ctx.secret"
        )
    if "[" in found.path.rpartition(".")[2]:
        return odd_key("", found.path)
    if given == back:
        return (
            f"{where} would come back with another value: it is left out or changed "
            "where its type writes or reads it"
        )
    return (
        f"{where} is a {given} and would come back as a {back}: say its type where it "
        "is declared"
    )


def odd_key(path: str, key: Any) -> str:
    where = f"{path}: " if path else ""
    name = key if isinstance(key, str) else f"[{key!r}]"
    return (
        f"{where}the key {name} is no text, and JSON has no other keys: say the type, "
        "as in dict[int, str], or write the keys as text"
    )


def unreadable(value: Any, error: ValidationError) -> str:
    path, fault = faults_of(error)[0]
    return f"{_where(value, path)} could not be read back: {fault}"


def unwritable(value: Any, error: Exception) -> str:
    path, culprit = _culprit(value)
    where = _where(value, path)
    try:
        if isinstance(culprit, str):
            culprit.encode()
    except UnicodeEncodeError:
        return (
            f"{where} holds half a surrogate pair, which is no text: use "
            "text.encode(errors='replace').decode()"
        )
    if isinstance(culprit, bytes):
        return (
            f"{where} is bytes that are no text: give its model "
            "ser_json_bytes='base64' and val_json_bytes='base64'"
        )
    cause = str(error).splitlines()[0].removeprefix("Error serializing to JSON: ")
    return f"{where} is a {type(culprit).__name__} that is no JSON: {cause}"


def _culprit(value: Any, depth: int = 20) -> tuple[str, Any]:
    for name, each in children(value):
        try:
            pydantic_core.to_json(each)
        except (ValueError, TypeError, RecursionError):
            path, inner = _culprit(each, depth - 1) if depth else ("", each)
            return f"{name}.{path}" if path else str(name), inner
    return "", value


def _where(value: Any, path: str) -> str:
    name = type(value).__name__
    return f"{name}.{path}" if path else f"the {name}"
