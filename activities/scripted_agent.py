"""
The agent of drills and benchmarks: scripted steps, one effect, and misbehaviour.

Each event is one JSON line in the log, written by one system call, so that lines of
several processes never mix.
"""

import asyncio
import ctypes
import fcntl
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from outlast import Context, agent
from outlast.contracts.ids import TaskRoundId, parse
from outlast.store.output_roots import output_path

How = Literal[
    "raise", "crash", "segfault", "hang", "block", "burn", "memory", "garbage"
]


# As much of a log's end as the line of the last saved step can lie before it.
TAIL_BYTES = 256 * 1024


# Drills leave nothing behind: their logs may lie among temporary files, too.
LogPath = Annotated[Path, output_path(lambda: [Path(tempfile.gettempdir())])]


class Misbehaviour(BaseModel):
    """
    At which step of which attempt (of each, when None) to do what.
    """

    model_config = ConfigDict(extra="forbid")

    attempt: int | None = None
    step: int = Field(ge=1)
    how: How


class Script(BaseModel):
    """
    What to rehearse.
    """

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(ge=0, le=100_000)
    step_seconds: float = Field(default=0.0, ge=0, le=3600)
    log: LogPath | None = None
    effect: str | None = Field(default=None, min_length=1, max_length=200)
    # How long the far side takes to answer once the effect has happened.
    effect_seconds: float = Field(default=0.0, ge=0, le=3600)
    misbehave: Misbehaviour | None = None
    # What came before it, whose results it does not use.
    needs: dict[str, JsonValue] = Field(default_factory=dict)


class ScriptResult(BaseModel):
    """
    How far it came.
    """

    steps: int = 0
    effect: str | None = None


@agent("rehearse", version=1)
async def rehearse(script: Script, ctx: Context) -> object:
    """
    Play the script from the step after the last saved one.
    """
    done = await ctx.resume(ScriptResult, ScriptResult())
    log = ScriptLog(script.log, ctx)
    log.mend(done.steps)
    log.write("start", step=done.steps)
    while done.steps < script.steps:
        step = done.steps + 1
        await asyncio.sleep(script.step_seconds)
        misbehaving = script.misbehave
        if misbehaving and due(misbehaving, ctx.attempt, step):
            garbage = await misbehave(misbehaving.how)
            if garbage is not None:
                return garbage
        done = ScriptResult(steps=step)
        # The save comes first: a stale attempt is refused there and writes no line.
        await ctx.save(done)
        log.write("step", step=step)
        ctx.emit(f"step {step} of {script.steps}")
    if script.effect is not None:
        await ctx.once(
            script.effect,
            lambda _: act(log, script),
            content=None,
            if_unsure="repeat",  # the log itself knows whether the line is there
        )
    log.write("end", step=done.steps)
    return ScriptResult(steps=done.steps, effect=script.effect)


async def act(log: "ScriptLog", script: Script) -> None:
    """
    Let the effect happen, and take as long to say so as the far side would.
    """
    log.write_effect(script.effect or "")
    await asyncio.sleep(script.effect_seconds)


def due(misbehaving: Misbehaviour, attempt: int, step: int) -> bool:
    return misbehaving.step == step and misbehaving.attempt in (None, attempt)


async def misbehave(how: How) -> object:  # noqa: C901 - one case a misdeed
    """
    Fail in the way that is asked for; garbage is what it returns.
    """
    match how:
        case "raise":
            raise RuntimeError("rehearsed failure")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "hang":
            await asyncio.Event().wait()
        case "block":
            time.sleep(3600)  # noqa: ASYNC251 - blocking the loop is the point
        case "burn":
            while True:
                pass
        case "memory":
            hoard: list[bytearray] = []
            while True:
                hoard.append(bytearray(16 * 1024 * 1024))
                await asyncio.sleep(0.01)
        case "garbage":
            return object()
    return None


class ScriptLog:
    """
    The rehearsal's log, or nothing when there is no file.
    """

    def __init__(self, path: Path | None, ctx: Context) -> None:
        self._path = path
        here = parse(TaskRoundId, ctx.key)
        assert here is not None
        self._task = here.task
        self._attempt = ctx.attempt

    def write(self, event: str, **more: object) -> None:
        """
        Append one event.
        """
        if self._path is None:
            return
        with self._path.open("ab", buffering=0) as file:
            file.write(self._line(event, task=self._task, **more))

    def mend(self, step: int) -> None:
        """
        Write the line of the last saved *step* if a death came between the save and it.
        """
        if self._path is None or step == 0 or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(max(0, self._path.stat().st_size - TAIL_BYTES))
            tail = file.read()
        # Reading it as JSON would be a good part of what a recovery takes.
        if self._line_head("step", task=self._task, step=step) not in tail:
            self.write("step", step=step)

    def write_effect(self, key: str) -> None:
        """
        Append the effect unless it is there: this log honours the key.
        """
        if self._path is None:
            return
        with self._path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if not any(_is_effect(line, key) for line in file.read().splitlines()):
                file.write(self._line("effect", key=key))

    def _line(self, event: str, **more: object) -> bytes:
        by = {"pid": os.getpid(), "attempt": self._attempt, "at": time.time()}
        return self._line_head(event, **more) + json.dumps(by)[1:].encode() + b"\n"

    def _line_head(self, event: str, **more: object) -> bytes:
        return json.dumps({"event": event, **more})[:-1].encode() + b", "


def _is_effect(line: bytes, key: str) -> bool:
    event = json.loads(line)
    return bool(event["event"] == "effect" and event["key"] == key)
