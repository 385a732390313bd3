"""
You see your own bug: the traceback of whatever an agent raised, bounded and without
secrets, and its last line in the user's own code.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outlast.agents.user_code import is_ours, is_users
from outlast.contracts.text import CAUSE_CHARS, visible
from outlast.dev import server_command
from outlast.execution.exceptions import failure_of
from outlast.execution.tracebacks import (
    MAX_TRACEBACK_BYTES,
    describe_failure,
    place_of,
    traceback_of,
)
from outlast.secrets import MASK, mask, masked


class UnprintableError(Exception):
    """
    Its message raises what no handler expects.
    """

    def __str__(self) -> str:
        raise KeyboardInterrupt


class OddNotesError(Exception):
    """
    Even its notes raise.
    """

    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError("no notes")


def raised(act: Any, *args: Any) -> BaseException:
    try:
        act(*args)
    except BaseException as error:
        return error
    raise AssertionError


def boom(error: BaseException) -> None:
    raise error


def deep(left: int) -> int:
    return 1 + deep(left - 1) if left else 1 // 0


def nested(left: int) -> None:
    try:
        if left:
            nested(left - 1)
        raise ValueError("x" * 50)
    except (ValueError, RuntimeError) as error:
        raise RuntimeError(f"level {left}") from error


def test_the_place_is_the_last_line_of_the_users_own_code() -> None:
    """
    Not that of the library in which it was raised.
    """
    error = raised(json.loads, "{")
    assert "json.loads" not in place_of(error)  # called from a test's helper
    place = place_of(error)
    assert place.startswith("test_tracebacks.py:")
    assert place.endswith(" in raised: act(*args)")


def test_the_traceback_is_whole_where_it_is_short() -> None:
    """
    As Python prints it, with the libraries' frames.
    """
    told = traceback_of(raised(json.loads, "{")).text
    assert told.startswith("Traceback (most recent call last):\n")
    assert "json/decoder.py" in told
    assert told.endswith("char 1)\n")


def test_chained_causes_are_told() -> None:
    """
    The cause first, as Python does.
    """
    told = traceback_of(raised(nested, 1)).text
    assert told.count("The above exception was the direct cause") == 2
    assert told.rstrip().endswith("RuntimeError: level 1")


def test_our_own_frames_are_left_out() -> None:
    """
    An attempt calls the agent's function through a few of ours.
    """
    source = "def call(act):\n    act()\n"
    scope: dict[str, Any] = {}
    ours = Path(is_ours.__wrapped__.__code__.co_filename).parent / "guard.py"
    exec(compile(source, str(ours), "exec"), scope)
    try:
        scope["call"](lambda: boom(ValueError("x")))
    except ValueError as error:
        trace = traceback_of(error.with_traceback(error.__traceback__.tb_next))  # type: ignore[union-attr]
    assert "guard.py" not in trace.text
    assert trace.place.endswith("in boom: raise error")


async def test_groups_are_opened() -> None:
    """
    Place and text are those of the error which decides.
    """

    async def tool() -> None:
        raise ValueError("column 'iban' is missing")

    async def act() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(tool())

    try:
        await act()
    except ExceptionGroup as group:
        cause, text = describe_failure(failure_of(group), "ValueError")
    assert " in tool: raise ValueError(" in cause
    assert "ValueError: column 'iban' is missing" in text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 5_000_000),
        ValueError("caf\udce9 \ud83d"),
        ValueError("\x1b]0;owned\x07\x00"),
        UnprintableError(),
        OddNotesError("x"),
        SystemExit(3),
        ExceptionGroup("many", [ValueError("y" * 9_000)] * 50),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_can_be_told(error: BaseException) -> None:
    """
    Bounded, printable and with its place.
    """
    trace = traceback_of(raised(boom, error))
    assert len(trace.text.encode()) <= MAX_TRACEBACK_BYTES
    assert visible(trace.text) == trace.text
    assert trace.place.endswith("in boom: raise error")
    assert "in boom\n" in trace.text


def test_a_chain_that_holds_itself_ends() -> None:
    """
    Python lets an error be its own cause's cause.
    """
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    trace = traceback_of(first)
    assert "ValueError: a" in trace.text
    assert trace.place == ""


@pytest.mark.parametrize("act", [lambda: deep(900), lambda: nested(150)])
def test_of_a_long_one_the_innermost_frames_are_kept(act: Any) -> None:
    """
    They say where it came from.
    """
    trace = traceback_of(raised(act))
    assert len(trace.text.encode()) <= MAX_TRACEBACK_BYTES
    assert "in <lambda>" not in trace.text or "level" in trace.text
    assert trace.text.rstrip().splitlines()[-1].startswith(("ZeroDiv", "RuntimeError"))


def test_an_error_without_frames_has_no_place() -> None:
    """
    It was never raised.
    """
    assert traceback_of(ValueError("x")).place == ""
    assert describe_failure(ValueError("x"), "ValueError: x")[0] == "ValueError: x"


def test_the_place_of_what_it_was_raised_from_will_do() -> None:
    """
    Where a failure of ours is raised for an error of the agent's.
    """
    ours = RuntimeError("the agent called exit(3)")
    ours.__cause__ = raised(boom, SystemExit(3))
    assert place_of(ours).endswith("in boom: raise error")


def test_a_cause_makes_room_for_its_place() -> None:
    """
    Both are within what travels.
    """
    error = raised(boom, ValueError("x" * 500))
    told, _ = describe_failure(error, f"ValueError: {error}")
    assert len(told) <= CAUSE_CHARS
    assert told.endswith(f"… ({place_of(error)})")


@pytest.mark.parametrize(
    ("file", "mine"),
    [
        (__file__, True),
        (json.__file__, False),
        (pytest.__file__, False),
        (str(Path(is_ours.__wrapped__.__code__.co_filename)), False),
        ("<string>", False),
        ("/home/me/shop/agents.py", True),
    ],
)
def test_whose_code_a_file_is(file: str, mine: bool) -> None:
    """
    Not Python's, no library, not ours.
    """
    assert is_users(file) is mine


def test_the_crew_that_comes_with_us_counts_as_a_users() -> None:
    """
    Its failures are told in the same way.
    """
    import outlast.crew.librarian
    import outlast.workflows.status_board

    assert is_users(outlast.crew.librarian.__file__)
    assert is_ours(outlast.workflows.status_board.__file__)


def test_secrets_are_masked() -> None:
    """
    As they are, as `repr` writes them, and line by line; not what is too short to be
    one.
    """
    key = "-----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END-----"
    given = {"OUTLAST_SECRET_PAY": "hunter2", "OUTLAST_SECRET_KEY": key, "X": "other"}
    given["OUTLAST_SECRET_FLAG"] = "1"
    told = mask(f"hunter2 {key!r} MIIEvQIBADANBgkqhkiG9w0B other 1", given)
    assert told == f"{MASK} '{MASK}' {MASK} other 1"


def test_no_secret_leaves_in_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Neither in its text nor in its place.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", "hunter2")
    error = raised(lambda: boom(ValueError("hunter2")))
    error.add_note("with hunter2")
    trace = traceback_of(error)
    assert "hunter2" not in trace.text.replace('"hunter2"', "") + trace.place
    assert masked("a hunter2\nb", 50) == f"a {MASK} b"


def test_long_text_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A secret at the end of five megabytes is cut off with them.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", "hunter2")
    assert "hunter2" not in masked("x" * 5_000_000 + "hunter2", 400)


def test_the_temporal_server_is_given_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It is another program, which has no use for them, nor for what a .env file may hold
    beside them.
    """
    for name in ("OUTLAST_SECRET_PAY", "OUTLAST_MESH_KEY", "OPENAI_API_KEY", "OTHER"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("LC_ALL", "C")
    given = server_command.server_environment()
    assert "hunter2" not in given.values()
    assert given["PATH"] == os.environ["PATH"]
    assert given["LC_ALL"] == "C"
    assert given["USER"]


LITTERED = """
import faulthandler, gc, threading

from outlast.execution.tracebacks import frame_of_thread


class Node:
    pass


gc.disable()
faulthandler.dump_traceback_later(20, exit=True)
for _ in range(5):
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(30)]
    for thread in threads:
        thread.start()
    gc.collect()
    node = Node()
    node.me, node.local = node, threading.local()
    del node
    gc.set_threshold(15)  # reached within: each thread's frame is a new object
    gc.enable()
    assert frame_of_thread(threads[0].ident) is not None
    gc.disable()
    stop.set()
    for thread in threads:
        thread.join()
"""


def test_a_thread_is_looked_at_without_the_garbage_collector() -> None:
    """
    It would wait for ever where the garbage holds a `threading.local`.
    """
    command = [sys.executable, "-c", LITTERED]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
