"""
The routes of one task: which may still be tried, and why the others may not.

A route that failed is over. One that nobody plays now is passed by, and may be taken
again once somebody does.
"""

from collections.abc import Collection, Mapping

from outlast.contracts.text import CAUSE_CHARS, one_line


class Routes:
    """
    The way of a task along *routes*; of those an earlier run has seen some *failed*
    and was on *now*.
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
        Give up the route that was tried last; those that were passed by may be back.
        """
        self._unserved = set()
        self.failed[self.current] = f"{self.current}: {one_line(cause, CAUSE_CHARS)}"

    def mark_unserved(self, live: Collection[str]) -> None:
        """
        Note which routes nobody plays.
        """
        self._unserved = {each for each in self._routes if each not in live}

    def next(self, live: Collection[str] | None = None) -> str | None:
        """
        Name the first route that may be tried, of those that are *live*, if any is.
        """
        unserved = self._unserved if live is None else set(self._routes) - set(live)
        left = (each for each in self._routes if each not in self.failed)
        return next((each for each in left if each not in unserved), None)

    @property
    def degradation_reasons(self) -> list[str]:
        """
        Say why the task is where it is and not on its first route.
        """
        ahead = self._routes[: self._routes.index(self.current)]
        return [self.failed.get(each, no_live_worker(each)) for each in ahead]

    @property
    def failure_reasons(self) -> list[str]:
        """
        Say why no route is left.
        """
        return [
            self.failed.get(each, no_live_worker(each))
            for each in self._routes
            if each in self.failed or each in self._unserved
        ]


def no_live_worker(role: str) -> str:
    """
    Say that a role has no worker.
    """
    return f"{role}: no live worker plays it"
