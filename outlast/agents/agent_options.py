"""
The options of `@agent`: each with what it must be, said in one phrase.

A mistake here is found when the module is imported: `fallbacks="abc"` would otherwise
be three roles, and a policy in a dict nobody's.
"""

import inspect
import re
from typing import Any, Literal, get_args

from outlast.contracts.ids import NAME_CHARS, NAME_PATTERN
from outlast.contracts.retries import Policy

Isolation = Literal["shared", "process"]

# Items of one call; all of them are tried alone when it fails.
MAX_SLOTS = 10_000


def fault_of_role(role: Any) -> str | None:
    """
    Say why *role* cannot be a role's name; None when it can.
    """
    if callable(role):
        return 'it needs a role: @agent("refunds")'
    if not isinstance(role, str):
        return f'a role is a text, as in @agent("refunds"), not {role!r}'
    if len(role) > NAME_CHARS or not re.fullmatch(NAME_PATTERN, role):
        return (
            f"the role {role[:NAME_CHARS]!r} has up to {NAME_CHARS} letters, digits, "
            "'.', '_' and '-', and begins with a letter or digit"
        )
    return None


def fault_of_options(role: str, options: dict[str, Any]) -> str | None:
    """
    Say which of an agent's *options* cannot be, and what to write; None when all can.
    """
    for name, value in options.items():
        fault = _option_fault(name, value)
        if fault is not None:
            return fault
    for name in ("fallbacks", "before"):
        named = options.get(name) or ()
        if role in ([named] if isinstance(named, str) else named):
            return f"{name} names the agent's own role"
    slots = options.get("slots", 0)
    if options.get("isolation") == "process" and slots > 1:
        return f'slots={slots} contradicts isolation="process", which is one at a time'
    return None


def _option_fault(name: str, value: Any) -> str | None:
    match name:
        case "version" if not (_is_whole(value) and value >= 1):
            return f"version is a whole number from 1 on, not {value!r}"
        case "batch_size" if not _is_whole(value):
            return f"batch_size is a whole number, not {value!r}"
        case "batch_size" if not 0 <= value <= MAX_SLOTS:
            return f"batch_size is from 0 to {MAX_SLOTS}, not {value}"
        case "slots" if not (_is_whole(value) and value >= 0):
            return f"slots is a number of attempts at a time, not {value!r}"
        case "before" if value is not None and fault_of_role(value):
            return f"before is a role, not {value!r}"
        case "isolation" if value not in get_args(Isolation):
            return f'isolation is "shared" or "process", not {value!r}'
        case "policy":
            return _policy(value)
        case "fallbacks":
            return _fallbacks(value)
        case "migrate":
            return _migrate(value)
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _policy(value: Any) -> str | None:
    if value is None or isinstance(value, Policy):
        return None
    shown = "Policy(failures=2)"
    if isinstance(value, dict):
        shown = f"Policy({', '.join(f'{key}={each!r}' for key, each in value.items())})"
    return f"policy is a Policy, not {type(value).__name__}: write policy={shown}"


def _fallbacks(value: Any) -> str | None:
    if isinstance(value, str):
        return f"fallbacks is a tuple of roles: write fallbacks=({value!r},)"
    if not isinstance(value, tuple | list):
        return f"fallbacks is a tuple of roles, not {type(value).__name__}"
    for each in value:
        if not isinstance(each, str) or fault_of_role(each):
            return f"fallbacks holds {each!r}, which is no role"
    if len(set(value)) < len(value):
        return "fallbacks names a role twice"
    return None


def _migrate(value: Any) -> str | None:
    if value is None:
        return None
    if not callable(value):
        return f"migrate is a function of (version, value), not {value!r}"
    if inspect.iscoroutinefunction(value):
        return "migrate is a plain function: what it returns is the progress itself"
    try:
        inspect.signature(value).bind(1, None)
    except TypeError:
        taken = ", ".join(inspect.signature(value).parameters)
        return f"migrate is called with (version, value), and takes ({taken})"
    except ValueError:
        return None  # written in C: nobody can tell
    return None
