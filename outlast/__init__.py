"""
Outlast: crews of agents that finish their work when anything fails.

The names below are the whole public API. They are resolved when first used, since
workflows import this package and must not load the store with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outlast.attempt.agent import Degraded, agent
    from outlast.attempt.context import Context
    from outlast.attempt.worker_start import on_worker_start
    from outlast.contracts.errors import GiveUp, TryLater
    from outlast.contracts.models import FanOut, FollowUps, Mission, Redo, Task
    from outlast.contracts.policies import Policy
    from outlast.runtime.start import start

__all__ = [
    "Context",
    "Degraded",
    "FanOut",
    "FollowUps",
    "GiveUp",
    "Mission",
    "Policy",
    "Redo",
    "Task",
    "TryLater",
    "agent",
    "on_worker_start",
    "start",
]

_HOMES = {
    "Degraded": "outlast.attempt.agent",
    "FollowUps": "outlast.contracts.models",
    "GiveUp": "outlast.contracts.errors",
    "Mission": "outlast.contracts.models",
    "Policy": "outlast.contracts.policies",
    "Redo": "outlast.contracts.models",
    "Context": "outlast.attempt.context",
    "FanOut": "outlast.contracts.models",
    "Task": "outlast.contracts.models",
    "TryLater": "outlast.contracts.errors",
    "agent": "outlast.attempt.agent",
    "on_worker_start": "outlast.attempt.worker_start",
    "start": "outlast.runtime.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'outlast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
