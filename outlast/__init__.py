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
    from outlast.contracts.missions import Mission
    from outlast.contracts.results import FanOut, FollowUps, Redo
    from outlast.contracts.retries import Policy
    from outlast.contracts.tasks import Task
    from outlast.temporal.client import Client, Handle

__all__ = [
    "CircuitOpenError",
    "Client",
    "Context",
    "Degraded",
    "FanOut",
    "FollowUps",
    "GiveUp",
    "Handle",
    "Mission",
    "Policy",
    "Redo",
    "Task",
    "TryLater",
    "agent",
    "on_worker_start",
]

_HOMES = {
    "CircuitOpenError": "outlast.contracts.errors",
    "Degraded": "outlast.agents.agent",
    "FollowUps": "outlast.contracts.results",
    "GiveUp": "outlast.contracts.errors",
    "Handle": "outlast.temporal.client",
    "Mission": "outlast.contracts.missions",
    "Policy": "outlast.contracts.retries",
    "Redo": "outlast.contracts.results",
    "Client": "outlast.temporal.client",
    "Context": "outlast.agents.context",
    "FanOut": "outlast.contracts.results",
    "Task": "outlast.contracts.tasks",
    "TryLater": "outlast.contracts.errors",
    "agent": "outlast.agents.registry",
    "on_worker_start": "outlast.agents.worker_start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'outlast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
