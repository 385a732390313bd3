"""
Write docs/reference.md, the public API, from its docstrings.

    python -m docs.make_reference
"""

import inspect
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import outlast
from outlast import Context, testing
from outlast.contracts import errors
from outlast.contracts.approvals import Approval
from outlast.contracts.tasks import Budget, Limits

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference

The public API: what `outlast` and `outlast.testing` export. Written from the docstrings
by `python -m docs.make_reference`; a test compares. What the names are for, with
examples: [agents.md](agents.md), [tutorial.md](tutorial.md).
"""
# By what a reader looks for; every name that `outlast` exports is in one of them.
SECTIONS: dict[str, tuple[str, list[Any]]] = {
    "Declare": (
        "outlast.",
        [outlast.agent, outlast.Policy, outlast.on_worker_start],
    ),
    "Work": ("outlast.", [Context]),
    "End": (
        "outlast.",
        [
            *(outlast.Degraded, outlast.FollowUps, outlast.FanOut, outlast.Redo),
            *(outlast.GiveUp, outlast.TryLater, outlast.CircuitOpenError),
        ],
    ),
    "Missions": (
        "outlast.",
        [outlast.Mission, outlast.Task, outlast.Client, outlast.Handle],
    ),
    "What they hold": ("", [Limits, Budget, Approval]),
    "Test": ("outlast.testing.", [testing.run, testing.AgentRun, testing.AgentWarning]),
}
# What an agent may use of its context; the rest is for those who run the attempt.
CONTEXT = [
    *("resume", "save", "once", "emit", "record_usage", "check_budget"),
    *("batch_results", "service", "secret", "run_sync", "cancelled"),
    *("key", "tenant", "round", "attempt", "route", "redo_reason"),
]
MEMBERS: dict[Any, list[str]] = {
    Context: [f"ctx.{each}" for each in CONTEXT],
    outlast.Client: ["Client.connect", "client.start", "client.get"],
    outlast.Handle: [
        *("handle.result", "handle.status", "handle.cancel", "handle.task_results"),
    ],
}
# Filled in by the starter or the first activity; refused in a mission file.
FILLED_IN = {
    "crew",
    "store",
    "heartbeat_timeout_s",
    "prior_run",
    "parent",
    "scope",
    "stored",
}
FILLED_IN |= {"schema_number"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most"}
BOUNDS |= {"min_length": "length at least", "max_length": "length at most"}
WIDTH = 80
FIELD_LIST = re.compile(r":(param|raises) ([\w, ]+):\s*(.+?)(?=\n\s*:|\n\n|\Z)", re.S)


def page() -> str:
    """
    Make the whole page.
    """
    lines = [HEAD]
    for title, (prefix, things) in SECTIONS.items():
        lines.append(f"## {title}\n")
        for thing in things:
            lines += _entry(f"{prefix}{thing.__name__}", thing)
    lines += ["## Errors\n", "```text", inspect.cleandoc(errors.__doc__ or ""), "```\n"]
    return "\n".join(lines)


def _entry(name: str, thing: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    if thing in MEMBERS:
        yield from _members(thing, MEMBERS[thing])
        return
    fields = thing.model_fields if _is_model(thing) else {}
    if inspect.isfunction(thing) or ("__init__" in vars(thing) and not fields):
        yield _signature(thing.__name__, thing)
    yield from _text(thing.__doc__, fields)
    if inspect.isclass(thing) and issubclass(thing, Exception):
        yield from _text(thing.__init__.__doc__)
    if _is_model(thing):
        yield from _fields(thing)


def _members(thing: type, calls: list[str]) -> Iterator[str]:
    yield from _text(thing.__doc__)
    for call in calls:
        member = vars(thing)[call.rpartition(".")[2]]
        yield f"#### `{call}`\n"
        if isinstance(member, property):
            kind = inspect.signature(member.fget or page).return_annotation
            yield f"`{_type(kind)}`\n"
        else:
            yield _signature(call, getattr(member, "__func__", member))
        yield from _text(member.__doc__)


def _signature(name: str, thing: Any) -> str:
    """
    Write how *thing* is called, a parameter a line where it is long.
    """
    signature = inspect.signature(thing)
    given = [
        each
        for each in signature.parameters.values()
        if each.name not in {"self", "cls"}
    ]
    words = [_type(str(each)) for each in given]
    named = [each.kind is each.KEYWORD_ONLY for each in given]
    if any(named):
        words.insert(named.index(True), "*")
    called = inspect.unwrap(thing)
    if inspect.isasyncgenfunction(called):  # under `asynccontextmanager`
        return f"```python\nasync with {name}({', '.join(words)}) as ...\n```\n"
    awaited = "await " if inspect.iscoroutinefunction(called) else ""
    back = signature.return_annotation
    end = "" if back in (None, signature.empty) else f" -> {_type(back)}"
    whole = f"{awaited}{name}({', '.join(words)}){end}"
    if len(whole) > WIDTH:
        lines = "".join(f"    {each},\n" for each in words)
        whole = f"{awaited}{name}(\n{lines}){end}"
    return f"```python\n{whole}\n```\n"


def _text(told: str | None, fields: Container[str] = ()) -> Iterator[str]:
    """
    Turn a docstring into Markdown; its parameters become a list, but for *fields*.
    """
    told = inspect.cleandoc(told or "")
    if words := re.split(r"(?:^|\n):", told)[0].strip():
        yield f"{words}\n"
    rows = [each for each in FIELD_LIST.findall(told) if each[1] not in fields]
    for kind, name, words in rows:
        raises = "raises " if kind == "raises" else ""
        yield f"- {raises}`{name}`: {' '.join(words.split())}"
    if rows:
        yield ""


def _fields(model: type[BaseModel]) -> Iterator[str]:
    found = FIELD_LIST.findall(inspect.cleandoc(model.__doc__ or ""))
    meanings = {name: " ".join(words.split()) for _, name, words in found}
    yield "| Field | Type | Default | |\n| --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        if name in FILLED_IN:
            continue
        kind = f"`{_type(field.annotation)}`".replace("|", "\\|") + _bounds(field)
        meaning = meanings.get(name, "")
        yield f"| `{name}` | {kind} | {_default(field)} | {meaning} |"
    yield ""


def _is_model(thing: Any) -> TypeGuard[type[BaseModel]]:
    return inspect.isclass(thing) and issubclass(thing, BaseModel)


def _bounds(field: FieldInfo) -> str:
    found = {
        words: getattr(each, key)
        for each in field.metadata
        for key, words in BOUNDS.items()
        if getattr(each, key, None) is not None
    }
    return "".join(f", {words} {int(bound):,}" for words, bound in found.items())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return f"`{type(value).__name__}()`" if _is_model(type(value)) else f"`{value!r}`"


def _type(kind: Any) -> str:
    """
    Write a type, or a parameter, without the modules that names come from.
    """
    told = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    told = re.sub(r"(?:[A-Za-z_]\w*\.)+(\w+)", r"\1", told)
    told = re.sub(r"Annotated\[(\w+), .*?\)\]|~", r"\1", told)
    return told.replace("<factory>", "[]")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
