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
    :param patience_s: seconds for which it waits for a service that is away, without
        another route; None: as long as its mission may last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: int = Field(default=4, ge=1, le=20)
    # A death outside of quarantine may have been a neighbour's fault.
    crashes: int = Field(default=2, ge=1, le=20)
    attempt_limit_s: float = Field(default=900.0, gt=0, le=86_400)
    stall_s: float = Field(default=60.0, gt=0, le=86_400)
    patience_s: float | None = Field(default=None, ge=0)

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
    When the circuit of an outside service opens, and how it is tried again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # So many failures in a row, of the whole crew, open it. With fewer a hiccup would.
    failures: int = Field(default=3, ge=1)
    # Older ones are forgotten. Shorter, and three silences of a model would never meet.
    window_s: float = Field(default=300.0, gt=0)
    # Between probes: the older the outage the longer, within these. Longer spares the
    # service, and notices its return later.
    shortest_pause_s: float = Field(default=0.5, gt=0)
    young_pause_s: float = Field(default=3.0, gt=0)  # at most, in its first minute
    longest_pause_s: float = Field(default=5.0, gt=0)
    # After an expired key or an unpaid bill: a person has to act first.
    refused_pause_s: float = Field(default=60.0, gt=0)
    # So many a second of those that wait may call after an outage, at least.
    release_floor: float = Field(default=20.0, gt=0)

    def pause_s(self, outage_s: float) -> float:
        """
        Seconds to the next probe of a service that has been away for *outage_s*.
        """
        young = min(outage_s / 4, self.young_pause_s)
        pause_s = max(self.shortest_pause_s, young, outage_s / 20)
        return min(pause_s, self.longest_pause_s)


DEFAULT_BREAKER_POLICY = BreakerPolicy()
