"""
Which attempt logs or prints: its mission, task and number, on every line.

The name travels with the context, as asyncio and `asyncio.to_thread` pass it on; a
thread that an agent starts by itself has none.
"""

import logging
from contextvars import ContextVar
from typing import Any, NamedTuple

from outlast.ledger.claim import Claim


class AttemptName(NamedTuple):
    """
    An attempt of a task, or of an item of a batch.
    """

    mission: str
    task: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.mission}/{self.task} #{self.attempt}"


_current: ContextVar[AttemptName | None] = ContextVar("outlast_attempt", default=None)


def log_as(attempt: Claim | AttemptName) -> None:
    """
    Put the attempt's name on what this context logs and prints from here on.
    """
    _current.set(AttemptName(attempt.mission, attempt.task, attempt.attempt))


def logging_attempt() -> AttemptName | None:
    return _current.get()


def name_records() -> None:
    """
    Have every log record of this process carry `outlast_mission`, `outlast_task` and
    `outlast_attempt`, for handlers and formatters of the user's own.
    """
    made = logging.getLogRecordFactory()
    if isinstance(made, _NamingFactory):
        return
    logging.setLogRecordFactory(_NamingFactory(made))


class _NamingFactory:
    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        name = logging_attempt() or (None, None, None)
        record.outlast_mission, record.outlast_task, record.outlast_attempt = name
        return record
