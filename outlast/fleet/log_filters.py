"""
State that this release is too old for: told in one sentence instead of tracebacks.

Refusing it is the contracts' part (`State`) and keeping it for somebody else is the
server's; both the SDK's failed tasks are left to say what an operator should do.
"""

import logging

from outlast.contracts.errors import NewerStateError

WORKFLOW_LOGGER = "temporalio.worker._workflow_instance"
ACTIVITY_LOGGER = "temporalio.activity"


def install_log_filters() -> None:
    logging.getLogger(WORKFLOW_LOGGER).addFilter(_shorten_refusal)
    logging.getLogger(ACTIVITY_LOGGER).addFilter(_shorten_refusal)


def _shorten_refusal(record: logging.LogRecord) -> bool:
    refused = _newer_state_error(record)
    if refused is not None:
        record.msg, record.args = "state.refused: %s", (refused,)
        record.exc_info = record.exc_text = None
        return True
    # We tell of every failed attempt ourselves, with one traceback instead of two.
    return record.name != ACTIVITY_LOGGER or record.levelno >= logging.ERROR


def _newer_state_error(record: logging.LogRecord) -> NewerStateError | None:
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        if isinstance(error, NewerStateError):
            return error
        error = error.__cause__
    return None
