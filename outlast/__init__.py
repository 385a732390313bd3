"""
Outlast: crews of agents that finish their work when anything fails.

The names below are the whole public API. They are resolved when first used, since
workflows import this package and must not load the store with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outlast.agents.agent import Degraded
    from outlast.agents.context import Context
    from outlast.agents.registry import agent
    from outlast.agents.worker_start import on_worker_start
    from outlast.contracts.errors import CircuitOpenError, GiveUp, TryLater
    from outlast.contracts.models import FanOut, FollowUps, Mission, Redo, Task
    from outlast.contracts.policies import Policy
    from outlast.temporal.missions import start

__all__ = [
    "CircuitOpenError",
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
    "CircuitOpenError": "outlast.contracts.errors",
    "Degraded": "outlast.agents.agent",
    "FollowUps": "outlast.contracts.models",
    "GiveUp": "outlast.contracts.errors",
    "Mission": "outlast.contracts.models",
    "Policy": "outlast.contracts.policies",
    "Redo": "outlast.contracts.models",
    "Context": "outlast.agents.context",
    "FanOut": "outlast.contracts.models",
    "Task": "outlast.contracts.models",
    "TryLater": "outlast.contracts.errors",
    "agent": "outlast.agents.registry",
    "on_worker_start": "outlast.agents.worker_start",
    "start": "outlast.temporal.missions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'outlast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
