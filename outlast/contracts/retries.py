"""
How long an attempt may take, how often it may fail, and when it is tried again.
"""

import random
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

# How long an attempt waits for the mesh's permit. Longer uses up the attempt limit,
# shorter fills the history of a run that is suspended for hours.
MAX_SUSPENDED_S = 60.0


class Policy(BaseModel):
    """
    How long one attempt of a role may take and how often it may fail.

    :param failures: attempts that may raise, stall or time out before the next route is
        tried. More hides a broken agent for longer, fewer gives up on a service that
        fails for a moment.
    :param crashes: deaths of the process without a saved step in between, after which
        the task runs in quarantine; only deaths there can make it a dead letter.
    :param attempt_limit_s: seconds that one attempt may last.
    :param stall_s: seconds without a save, an effect or `ctx.emit`, after which the
        attempt is ended as a failure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(default=4, ge=1, le=20)
    # A death outside of quarantine may have been a neighbour's fault.
    crashes: int = Field(default=2, ge=1, le=20)
    attempt_limit_s: float = Field(default=900.0, gt=0, le=86_400)
    stall_s: float = Field(default=60.0, gt=0, le=86_400)

    @property
    def attempt_limit(self) -> timedelta:
        return timedelta(seconds=self.attempt_limit_s)

    @property
    def max_suspended_s(self) -> float:
        """
        How long an attempt waits for the mesh's permit before it is handed back: its
        limit passes meanwhile, and being suspended is no failure.
        """
        return min(MAX_SUSPENDED_S, self.attempt_limit_s / 2)


# The delay before a failed attempt is tried again: 0.2 s, then x3, at most 30 s.
BACKOFF_FIRST_S = 0.2
BACKOFF_FACTOR = 3.0
BACKOFF_CAP_S = 30.0
# Half of each delay is random, so that tasks which failed together return apart.
BACKOFF_JITTER = 0.5
# How often the server tries a dispatch by itself before its workflow hears of it, four
# hours by these delays. What an agent may fail is counted in the ledger and ends a task
# long before. This is for what is nobody's failure: a store that is away, workers too
# old to read what they are given.
MAX_SERVER_RETRIES = 500
# How long an agent that has to end may take to clean up, and an act under way to
# finish, when its attempt was cancelled, has stalled or was ended by a signal. Then the
# attempt is over without them. Longer delays a cancelled mission and a drain by a
# thread that cannot be ended, shorter cuts off a client that closes its connections.
CANCEL_GRACE_S = 1.0


def backoff_s(failures: int, draw: float | None = None) -> float:
    """
    Seconds to wait after the *failures*-th failure; *draw* in [0, 1) is the jitter.
    """
    full = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * BACKOFF_FACTOR ** max(0, failures - 1))
    chance = random.random() if draw is None else draw
    return full - full * BACKOFF_JITTER * chance


class BreakerPolicy(BaseModel):
    """
    What the breaker of an outside service bears, and how long it lets it rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # So many failures in a row open it. Fewer takes a hiccup for a sickness, more lets
    # every task find out by itself.
    failures: int = Field(default=3, ge=1)
    # Older ones are forgotten. Shorter, and three silences of a model would never meet.
    window_s: float = Field(default=300.0, gt=0)
    # How long nobody asks; twice as long after each probe that fails, up to the cap.
    # Longer spares the service, and tells later that it is well again.
    open_s: float = Field(default=5.0, gt=0)
    max_open_s: float = Field(default=60.0, gt=0)
    # A probe that has not ended by then is given up, and another one may go.
    probe_s: float = Field(default=120.0, gt=0)


DEFAULT_BREAKER_POLICY = BreakerPolicy()
