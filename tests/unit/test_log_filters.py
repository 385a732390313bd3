"""
What this release is too old for is told in one line, and nothing else is lost.
"""

import logging
from collections.abc import Iterator

import pytest

from outlast.contracts.errors import NewerStateError
from outlast.fleet.worker_output import (
    ACTIVITY_LOGGER,
    WORKFLOW_LOGGER,
    _shorten_refusal,
    install_log_filters,
)

SENTENCE = "m was written by a newer release: start workers of it"


class Kept(logging.Handler):
    """
    Keeps what is logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def kept() -> Iterator[Kept]:
    made, names = Kept(), (WORKFLOW_LOGGER, ACTIVITY_LOGGER)
    install_log_filters()
    for name in names:
        logging.getLogger(name).addHandler(made)
    yield made
    for name in names:
        logging.getLogger(name).removeHandler(made)
        logging.getLogger(name).removeFilter(_shorten_refusal)


def fails(logger: str, error: Exception) -> None:
    """
    Log as the SDK does when the decoding of arguments ends in *error*.
    """
    try:
        raise RuntimeError("Failed decoding arguments") from error
    except RuntimeError:
        logging.getLogger(logger).warning("Failed %s", "activation", exc_info=True)


@pytest.mark.parametrize("logger", [WORKFLOW_LOGGER, ACTIVITY_LOGGER])
def test_newer_state_is_told_in_one_line(logger: str, kept: Kept) -> None:
    """
    The sentence that says what to do, without a traceback.
    """
    fails(logger, NewerStateError(SENTENCE))
    assert kept.lines == [f"state.refused: {SENTENCE}"]


def test_other_faults_of_workflows_keep_their_tracebacks(kept: Kept) -> None:
    """
    Whoever mends them needs it.
    """
    fails(WORKFLOW_LOGGER, ValueError("odd"))
    (told,) = kept.lines
    assert "Traceback" in told
    assert "ValueError: odd" in told


def test_failed_attempts_are_left_to_our_own_words(kept: Kept) -> None:
    """
    One line a failure is enough; what the SDK itself cannot do is told.
    """
    fails(ACTIVITY_LOGGER, ValueError("odd"))
    assert kept.lines == []
    logging.getLogger(ACTIVITY_LOGGER).error("cannot complete")
    assert kept.lines == ["cannot complete"]
