"""
The routes of one task: which may still be tried, and why the others may not.

A route that failed is not tried again. A route without a live worker is skipped, and
may be tried again once it has one.
"""

from collections.abc import Collection, Mapping
from enum import Enum, auto

from outlast.contracts.text import CAUSE_CHARS, one_line


class RerouteAction(Enum):
    """
    What a report of unserved tasks means for one task.
    """

    KEEP = auto()
    MOVE = auto()  # to a route with a live worker
    WAIT = auto()  # until a route has a live worker
    RESUME = auto()  # a route it waited for has a live worker again
    SKIP = auto()  # it is optional: the mission continues without it


class Routes:
    """
    The *routes* of a task, in order; an earlier run left some *failed* and was on
    *now*.
    """

    def __init__(
        self, routes: list[str], failed: Mapping[str, str] | None = None, now: str = ""
    ) -> None:
        self._routes = routes
        self.failed = dict(failed or {})
        self._unserved: set[str] = set()
        self.current = now or routes[0]

    def fail(self, cause: str) -> None:
        """
        Mark the current route as failed; unserved routes may be served again.
        """
        self._unserved = set()
        self.failed[self.current] = f"{self.current}: {one_line(cause, CAUSE_CHARS)}"

    def mark_unserved(self, live: Collection[str]) -> None:
        self._unserved = {each for each in self._routes if each not in live}

    def next(self, live: Collection[str] | None = None) -> str | None:
        """
        Name the first route that may be tried, among the *live* ones if given; None if
        none.
        """
        unserved = self._unserved if live is None else set(self._routes) - set(live)
        left = (each for each in self._routes if each not in self.failed)
        return next((each for each in left if each not in unserved), None)

    def is_last(self, route: str) -> bool:
        """
        Whether no other route is left to try, served or not.
        """
        return all(each in self.failed for each in self._routes if each != route)

    @property
    def degradation_reasons(self) -> list[str]:
        """
        Say why the task is not on its first route.
        """
        ahead = self._routes[: self._routes.index(self.current)]
        return [self.failed.get(each, no_live_worker(each)) for each in ahead]

    @property
    def failure_reasons(self) -> list[str]:
        return [
            self.failed.get(each, no_live_worker(each))
            for each in self._routes
            if each in self.failed or each in self._unserved
        ]


def no_live_worker(role: str) -> str:
    return f"{role}: no live worker plays it"
