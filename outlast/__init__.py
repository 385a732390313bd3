"""
Outlast: crews of agents that finish their work when anything fails.

The names below are the whole public API. They are resolved when first used, since
workflows import this package and must not load the store with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outlast.attempt.agent import Degraded, agent
    from outlast.attempt.run import Run
    from outlast.contracts.errors import GiveUp, TryLater
    from outlast.contracts.models import FollowUps, Mission, Redo, Spread, Task
    from outlast.contracts.policies import Policy
    from outlast.runtime.start import start

__all__ = [
    "Degraded",
    "FollowUps",
    "GiveUp",
    "Mission",
    "Policy",
    "Redo",
    "Run",
    "Spread",
    "Task",
    "TryLater",
    "agent",
    "start",
]

_HOMES = {
    "Degraded": "outlast.attempt.agent",
    "FollowUps": "outlast.contracts.models",
    "GiveUp": "outlast.contracts.errors",
    "Mission": "outlast.contracts.models",
    "Policy": "outlast.contracts.policies",
    "Redo": "outlast.contracts.models",
    "Run": "outlast.attempt.run",
    "Spread": "outlast.contracts.models",
    "Task": "outlast.contracts.models",
    "TryLater": "outlast.contracts.errors",
    "agent": "outlast.attempt.agent",
    "start": "outlast.runtime.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'outlast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
