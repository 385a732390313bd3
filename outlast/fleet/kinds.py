"""
The kinds of worker process, and what is imported before they are forked.
"""

from enum import StrEnum


class Kind(StrEnum):
    """
    What a worker process hosts. Agents never share a process with workflows: one
    blocking call of an agent would hold them all.
    """

    WORKFLOWS = "workflows"
    AGENTS = "agents"
    # One attempt at a time, of tasks that are suspected of killing their process.
    ALONE = "alone"


_WORKER = ("outlast.fleet.child", "temporalio.worker", "temporalio.contrib.pydantic")

PRELOADED = dict.fromkeys(Kind, _WORKER)
