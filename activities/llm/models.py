"""
Which models there are to think with, by the environment of the worker.
"""

import os

from outlast.contracts.errors import GiveUp
from outlast.crew.settings import MODEL_SILENCE_S

# By what a route's name ends with: `writer.model` thinks with OUTLAST_MODEL.
VARIABLES = {"model": "OUTLAST_MODEL", "fallback-model": "OUTLAST_FALLBACK_MODEL"}


def present() -> list[str]:
    return [ending for ending, name in VARIABLES.items() if os.environ.get(name)]


def model_of(route: str) -> str:
    """
    Name the model that *route* thinks with.

    :raises GiveUp: when this worker was not told of one.
    """
    variable = VARIABLES[route.rpartition(".")[2]]
    if not (name := os.environ.get(variable)):
        raise GiveUp(f"this worker has no {variable}")
    return name


def silence_s() -> float:
    """
    How long a model may say nothing, in seconds.
    """
    return float(os.environ.get("OUTLAST_MODEL_SILENCE_S") or MODEL_SILENCE_S)


def output() -> str:
    """
    How an answer of a form is asked for: by a `tool` call, by the service's own
    (`native`) JSON schema, or in words (`prompted`).
    """
    return os.environ.get("OUTLAST_MODEL_OUTPUT") or "tool"
