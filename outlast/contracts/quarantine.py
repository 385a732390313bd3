"""
What deaths in quarantine weigh: the only place that tells a poison task from one that
a storm of kills has hit again and again.

In quarantine a task or item is alone in its process. An end that explains itself (an
exit code, a fault of memory, a broken limit) proves poison at once.
A bare SIGKILL looks the same from the kernel, from outside and from the attempt itself.
It counts only where no other process of the fleet was killed since the death before,
and before each further attempt the task waits longer than the last one had run: a storm
continues meanwhile and hits others, a poison task is the only one that dies. Three such
deaths in a row prove poison; and so do six while only other suspects die, since several
poison tasks would hide each other for ever.

What it risks: a storm that hits nothing but this one task's process, for longer than
all the waits, is indistinguishable from the task itself.
`tests/unit/test_quarantine.py` plays the rule against 10,000 storms.
"""

from outlast.contracts.wire import WireModel

# Deaths in a row, each without another process's kill since the one before it. Fewer
# errs by chance (one in a thousand storms), more lets poison kill more processes.
MAX_ATTRIBUTED_DEATHS = 3
# Deaths in a row while only suspects were killed. They take a minute and a half because
# of the waits in between: fewer errs where a storm hits quarantine only, more lets
# poison tasks run that die beside each other.
MAX_LONE_DEATHS = 6
# Unwatched deaths, as when heartbeats are lost. Fewer errs after outages of the server,
# more lets a task kill hosts with their whole fleets.
MAX_UNSEEN_DEATHS = 20

# The wait before the next attempt, by such deaths in a row; the first is that of a
# storm. Longer outlasts more storms, shorter decides sooner.
QUARANTINE_WAITS_S = (2.0, 4.0, 16.0, 20.0)
# Where the next death may decide, the wait is 4, then 16 times what the last attempt
# had run, at most 10 minutes: so the task is rarely in danger.
RARE_DEATHS = 4
MAX_QUARANTINE_WAIT_S = 600.0
# Waits differ by up to a half of themselves, so that no storm keeps their time.
WAIT_JITTER = 0.5

# A kill of others so long before a death has the same cause; the workflow may learn of
# it late.
SAME_STORM_S = 3.0


class Death(WireModel):
    """
    What the parent of a fleet knows of the end of one of its processes.

    :param own: the end explains itself: the in-flight work has caused it.
    :param other_s: seconds before it at which another process of the fleet was killed
        last for no known reason; None if none was.
    :param outside_s: the same, without processes that had a suspect in quarantine.
    :param watched_s: for how long the parent had watched the fleet.
    """

    own: bool = False
    other_s: float | None = None
    outside_s: float | None = None
    watched_s: float = 0.0

    def was_watched(self, since_s: float) -> bool:
        return self.watched_s >= since_s

    def is_attributable(self, since_s: float) -> bool:
        return self.was_watched(since_s) and not _within(self.other_s, since_s)

    def in_storm(self, since_s: float) -> bool:
        return _within(self.outside_s, since_s)


# As of a lost heartbeat: how the process ended is unknown.
UNSEEN_DEATH = Death()


class Quarantine(WireModel):
    """
    The deaths of one suspect while it was alone in its process.

    :param attributed: those in a row, up to the last one, that nobody else's kill
        explains.
    :param lone: those in a row that no kill outside of quarantine explains.
    :param unseen: unwatched ones.
    """

    deaths: int = 0
    own: bool = False
    attributed: int = 0
    lone: int = 0
    unseen: int = 0

    def with_death(self, death: Death, since_s: float) -> "Quarantine":
        """
        Add a *death*, *since_s* seconds after the one before it.
        """
        seen, stormy = death.was_watched(since_s), death.in_storm(since_s)
        weighed = {
            "deaths": self.deaths + 1,
            "own": self.own or death.own,
            "attributed": self.attributed + 1 if death.is_attributable(since_s) else 0,
            "lone": 0 if stormy else self.lone + seen,
            "unseen": self.unseen + (not seen),
        }
        return self.model_copy(update=weighed)

    @property
    def is_poison(self) -> bool:
        """
        Whether the suspect has surely killed its processes itself.
        """
        many = self.lone >= MAX_LONE_DEATHS or self.unseen >= MAX_UNSEEN_DEATHS
        return self.own or self.attributed >= MAX_ATTRIBUTED_DEATHS or many

    @property
    def describe(self) -> str:
        if self.own or not self.is_poison:
            return ""
        if self.attributed >= MAX_ATTRIBUTED_DEATHS:
            return (
                f", the last {self.attributed} alone while no other process was killed"
            )
        if self.lone >= MAX_LONE_DEATHS:
            return f", the last {self.lone} alone while only suspects were killed"
        return f", {self.unseen} of them alone and unseen"

    def wait_s(self, ran_s: float, draw: float) -> float:
        """
        Choose the wait before the next attempt where the last one had run for *ran_s*;
        *draw* in [0, 1) is the jitter.
        """
        if not self.deaths:
            return 0.0
        usual_s = QUARANTINE_WAITS_S[min(self.lone, len(QUARANTINE_WAITS_S) - 1)]
        rare_s = ran_s * float(RARE_DEATHS**self.attributed) if self.attributed else 0.0
        return max(usual_s, min(rare_s, MAX_QUARANTINE_WAIT_S)) * (
            1 + WAIT_JITTER * draw
        )


def _within(age_s: float | None, since_s: float) -> bool:
    return age_s is not None and age_s <= since_s + SAME_STORM_S
