"""
Where a home's Temporal is: waited for while it starts, and never guessed.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit_fakes import told_in_one_sentence

from outlast.contracts.errors import UnavailableError
from outlast.dev import stack_client
from outlast.dev.locks import STACK_LOCK, lock
from outlast.dev.stack_client import temporal_of
from outlast.dev.stack_state import READY_FILE, StackState, read_stack
from outlast.settings import Settings

ADDRESS = "127.0.0.1:20001"
BOUND_S = 10.0


@pytest.fixture(autouse=True)
def _no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Has the environment name no Temporal, and no file of the user's either.
    """
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """
    Owns the stack of *tmp_path* as `dev` does, until called.
    """
    held = [lock(tmp_path / STACK_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)]

    def let_go() -> None:
        while held:
            file = held.pop()
            assert file is not None
            os.close(file)

    yield let_go
    let_go()


def ready(home: Path) -> None:
    (home / READY_FILE).write_text(json.dumps({"address": ADDRESS}))


class Told:
    """
    What a person is told while they wait.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.first = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.first.set()


async def found(home: Path, told: Told, coming_s: float = 0.0) -> str:
    async with asyncio.timeout(BOUND_S):
        return await temporal_of(Settings(home=home), told, coming_s)


@pytest.mark.usefixtures("owner")
async def test_a_stack_that_starts_is_waited_for(tmp_path: Path) -> None:
    """
    With one line that says for what and how long.
    """
    told = Told()
    finding = asyncio.ensure_future(found(tmp_path, told))
    await asyncio.wait_for(told.first.wait(), BOUND_S)
    assert not finding.done()
    ready(tmp_path)
    assert await finding == ADDRESS
    (line,) = told.lines
    assert str(tmp_path) in line
    assert "60 s at most" in line


async def test_one_that_ends_is_not_used(
    tmp_path: Path, owner: Callable[[], None]
) -> None:
    """
    It has no ready line any more, and then no owner.
    """
    told = Told()
    finding = asyncio.ensure_future(found(tmp_path, told))
    await asyncio.wait_for(told.first.wait(), BOUND_S)
    owner()
    with pytest.raises(UnavailableError, match="no stack runs on"):
        await finding


async def test_what_a_killed_stack_has_left_is_not_believed(tmp_path: Path) -> None:
    """
    Its address may be another server's by now, as may the usual one.
    """
    ready(tmp_path)
    with pytest.raises(UnavailableError) as refusal:
        await found(tmp_path, Told())
    told = told_in_one_sentence(refusal.value)
    assert str(tmp_path) in told
    for way_out in ("outlast dev", "--embedded", "TEMPORAL_ADDRESS="):
        assert way_out in told


def test_two_who_look_at_once_see_no_owner(tmp_path: Path) -> None:
    """
    One would take the other for it, and believe what a killed stack has left.
    """
    ready(tmp_path)
    looking = lock(tmp_path / STACK_LOCK, fcntl.LOCK_SH)
    assert looking is not None
    assert read_stack(tmp_path) == StackState(False)
    os.close(looking)


async def test_new_work_waits_for_a_stack_that_comes(tmp_path: Path) -> None:
    """
    A `dev` that was started at the same moment takes its lock a second later.
    """
    told = Told()
    finding = asyncio.ensure_future(found(tmp_path, told, coming_s=BOUND_S))
    await asyncio.wait_for(told.first.wait(), BOUND_S)
    held = lock(tmp_path / STACK_LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert held is not None
    ready(tmp_path)
    assert await finding == ADDRESS
    os.close(held)


@pytest.mark.usefixtures("owner")
async def test_a_wait_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The sentence names the logs.
    """
    monkeypatch.setattr(stack_client, "READY_LIMIT_S", 0.05)
    (tmp_path / "server.log").touch()
    with pytest.raises(UnavailableError) as refusal:
        await found(tmp_path, Told())
    assert str(tmp_path / "server.log") in told_in_one_sentence(refusal.value)


@pytest.mark.usefixtures("owner")
async def test_a_temporal_that_is_named_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The environment's word comes before the stack's.
    """
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal:7233")
    assert await found(tmp_path, Told()) == "temporal:7233"


async def test_a_profile_comes_after_the_stack(
    tmp_path: Path, owner: Callable[[], None]
) -> None:
    """
    The user's file names one for all homes; this one may have its own.
    """
    folder = tmp_path / "temporalio"
    folder.mkdir()
    told = '[profile.default]\naddress = "profile:7233"\n'
    (folder / "temporal.toml").write_text(told)
    ready(tmp_path)
    assert await found(tmp_path, Told()) == ADDRESS
    owner()
    assert await found(tmp_path, Told(), BOUND_S) == "profile:7233"


class Process:
    """
    A stack that was started, as a process that has ended with *code* or lives.
    """

    def __init__(self, code: int | None) -> None:
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """
    Notes each start of a stack, and starts none.
    """
    homes: list[Path] = []

    def start(home: Path) -> Process:
        homes.append(home)
        return Process(None)

    monkeypatch.setattr(stack_client, "_start", start)
    return homes


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (None, "the stack is gone"),  # another's
        (-9, "the stack is gone"),  # ours, killed
        (2, "did not start: no room"),
    ],
)
def test_a_stack_that_is_lost_is_started_again(
    tmp_path: Path, starts: list[Path], before: int | None, told: str
) -> None:
    """
    By each that uses it, and with a line; slowly, where it cannot start.
    """
    (tmp_path / "stack.log").write_text("error: no room\n")
    lines: list[str] = []
    user = stack_client._StackUse(tmp_path, lines.append)
    user.started = Process(before) if before else None  # type: ignore[assignment]
    pause = user._check()
    assert starts == [tmp_path]
    assert told in lines[0]
    assert pause == (
        stack_client.MAX_RESTART_STACK_S
        if before == 2
        else stack_client.RESTART_STACK_S
    )
    user._check()
    assert starts == [tmp_path], "it is starting"


@pytest.mark.usefixtures("owner")
def test_a_stack_that_somebody_runs_is_not_started(
    tmp_path: Path, starts: list[Path]
) -> None:
    """
    Ready or not yet.
    """
    stack_client._StackUse(tmp_path, print)._check()
    assert starts == []
