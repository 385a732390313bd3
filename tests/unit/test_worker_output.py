"""
What a worker prints and logs: whole lines, each with its attempt, without control
characters and secrets.
"""

import asyncio
import io
import logging
import threading
from collections.abc import Iterator

import pytest

from outlast.fleet.worker_output import UserCodeFilter, WorkerStream
from outlast.telemetry.log_context import (
    AttemptName,
    log_as,
    logging_attempt,
    name_records,
)

PREFIX = "[m1/refund #2] "


@pytest.fixture
def out() -> WorkerStream:
    return WorkerStream(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


def written(out: WorkerStream) -> str:
    out.flush()
    body = out.buffer
    assert isinstance(body, io.BytesIO)
    return body.getvalue().decode()


async def as_attempt(act: object, task: str = "refund") -> None:
    """
    Call *act* as an attempt would.
    """
    log_as(AttemptName("m1", task, 2))
    await asyncio.to_thread(act)  # type: ignore[arg-type]


async def test_lines_of_an_attempt_carry_its_name(out: WorkerStream) -> None:
    """
    Every one, also of a traceback, and of a thread that asyncio starts.
    """
    await asyncio.create_task(as_attempt(lambda: print("asking\nthe bank", file=out)))
    print("between attempts", file=out)
    assert written(out) == f"{PREFIX}asking\n{PREFIX}the bank\nbetween attempts\n"


async def test_lines_of_two_attempts_are_not_mixed(out: WorkerStream) -> None:
    """
    `print` writes a line in pieces.
    """
    meet = threading.Barrier(2)

    def prints() -> None:
        for word in ("a", "b", "c"):
            out.write(word)
            meet.wait(5)
        out.write("\n")

    await asyncio.gather(as_attempt(prints, "one"), as_attempt(prints, "two"))
    assert sorted(written(out).splitlines()) == ["[m1/one #2] abc", "[m1/two #2] abc"]


async def test_a_flush_writes_what_has_no_end_yet(out: WorkerStream) -> None:
    """
    And the end of the process does, whoever began it.
    """
    flushed = asyncio.create_task(
        as_attempt(lambda: print("wait", end="", file=out, flush=True))
    )
    await flushed
    await asyncio.create_task(as_attempt(lambda: print("lost", end="", file=out)))
    assert written(out) == f"{PREFIX}wait\n"
    out.finish()
    assert written(out) == f"{PREFIX}wait\n{PREFIX}lost\n"


async def test_nothing_is_obeyed_and_no_secret_is_told(
    out: WorkerStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nor is a carriage return, which would write over the name.
    """
    monkeypatch.setenv("OUTLAST_SECRET_PAY", "hunter2")
    text = "\x1b[31mred \x9b\rover hunter2\x00\r\nnext"
    await asyncio.create_task(as_attempt(lambda: print(text, file=out)))
    assert written(out).splitlines() == [
        f"{PREFIX}\\x1b[31mred \\x9b",
        f"{PREFIX}over [secret]\\x00",
        f"{PREFIX}next",
    ]


def test_a_worker_is_no_terminal(out: WorkerStream) -> None:
    """
    So that libraries send no colours; a line without an end does not grow for ever.
    """
    assert not out.isatty()
    out.write("x" * 20_000)
    assert len(written(out)) == 20_001


def test_a_forked_child_begins_anew(out: WorkerStream) -> None:
    """
    Another thread may have held the lock when it was forked.
    """
    out.write("half")
    with out._lock:
        out._replace_lock()
    taken = threading.Thread(target=print, args=("whole",), kwargs={"file": out})
    taken.start()
    taken.join(5)
    assert written(out) == "whole\n"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    made: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = made.append  # type: ignore[method-assign]
    factory, logger = logging.getLogRecordFactory(), logging.getLogger("shop.agents")
    logger.addHandler(handler)
    yield made
    logger.removeHandler(handler)
    logging.setLogRecordFactory(factory)


def test_records_carry_the_attempt_for_the_users_own_handlers(
    records: list[logging.LogRecord],
) -> None:
    """
    Under names that no `extra` of theirs has.
    """
    name_records()
    name_records()
    logger = logging.getLogger("shop.agents")
    logger.warning("before", extra={"task": "mine", "mission": "mine"})

    async def attempt() -> None:
        log_as(AttemptName("m1", "refund", 2))
        logger.warning("within")

    asyncio.run(attempt())
    told = [
        (each.outlast_mission, each.outlast_task, each.outlast_attempt)  # type: ignore[attr-defined]
        for each in records
    ]
    assert told == [(None, None, None), ("m1", "refund", 2)]
    assert logging_attempt() is None


@pytest.mark.parametrize(
    ("name", "path", "level", "passes"),
    [
        ("shop", __file__, logging.INFO, True),
        ("shop", __file__, logging.DEBUG, False),
        ("json", asyncio.__file__, logging.INFO, False),
        ("json", asyncio.__file__, logging.WARNING, True),
        ("shelf.agents", pytest.__file__, logging.INFO, True),
    ],
)
def test_of_libraries_the_log_has_warnings(
    name: str, path: str, level: int, passes: bool
) -> None:
    """
    Of a user's modules what the setting says, also where they are installed.
    """
    record = logging.LogRecord(name, level, path, 1, "x", None, None)
    assert UserCodeFilter(logging.INFO, ["shelf"]).filter(record) is passes


def test_a_higher_level_keeps_warnings_of_users_out() -> None:
    """
    Ours and those of libraries are always told.
    """
    only_errors = UserCodeFilter(logging.ERROR)
    mine = logging.LogRecord("shop", logging.WARNING, __file__, 1, "x", None, None)
    ours = logging.LogRecord(
        "outlast.execution", logging.WARNING, asyncio.__file__, 1, "x", None, None
    )
    assert not only_errors.filter(mine)
    assert only_errors.filter(ours)
