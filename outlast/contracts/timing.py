"""
The clocks by which a fleet notices failure.
"""

from pydantic import BaseModel, ConfigDict


class Timing(BaseModel):
    """
    The clocks of one configuration: server, workers and workflows, in seconds.
    `validate_timing` refuses one that contradicts itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # No sign of life for this long and the attempt is given to another process: the
    # last detector, for a lost host. Longer than a worker may be silent, so that
    # working hard is never taken for being lost; higher lets a lost host wait.
    heartbeat_timeout_s: float = 12.0
    # A live attempt's sign. At most half of the timeout, so that one may be lost.
    heartbeat_s: float = 0.5
    # How often a worker's event loop shows the watchdog that it turns.
    tick_s: float = 0.1
    # How often the parent looks. Less often, and every watchdog kill comes later.
    check_s: float = 0.1
    # From the decision to kill a process until its attempts are reported.
    kill_s: float = 0.1
    # A stopped process is killed after this: its open polls swallow the retries of its
    # own tasks. Some ticks at least, or the healthy would be killed.
    stopped_limit_s: float = 1.0
    # A blocked event loop is reported after this, with the stack of what blocks it.
    blocked_report_s: float = 1.0
    # A loop that is blocked without using a processor, or has used so many seconds of
    # one, is killed. Lower kills blocking clients and long calls into C that would
    # have come back, higher holds up the neighbours of one that does not.
    blocked_limit_s: float = 5.0
    # The same where the machine has had no processor to give: slow, not hung.
    starved_limit_s: float = 10.0
    # How long the server waits for a dead workflow process before it asks another one.
    sticky_s: float = 0.2
    # A workflow task in the hands of a dead process. Lower than a long history's
    # replay and the mission would never move again.
    workflow_task_s: float = 2.0
    # How late the server's timers may fire: 1 s unless tuned, 10 ms as we start it.
    timer_slack_s: float = 0.01
    # From the decision to the next attempt's first line, on a machine that is busy.
    dispatch_s: float = 0.2

    @property
    def silence_s(self) -> float:
        """
        The longest that a worker may be silent before its death is reported.
        """
        limit_s = max(self.stopped_limit_s, self.starved_limit_s)
        return limit_s + self.tick_s + self.check_s + self.kill_s

    @property
    def parent_heartbeats(self) -> bool:
        """
        Whether the fleet's parent must send the heartbeats of a silent worker, because
        the timeout is shorter than the silence that the watchdog allows.
        """
        return self.heartbeat_timeout_s <= self.silence_s

    @property
    def parent_heartbeats_after_s(self) -> float:
        """
        After how long a silence the parent begins with that: no healthy worker is so
        late.
        """
        return LEAST_TICKS * self.tick_s


# Whatever limit the server has, a worker's SDK cancels an attempt by itself so long
# after a heartbeat timeout in which the attempt has sent nothing.
SDK_GRACE_S = 5.0
# Ticks that a process which is not stopped may be late with before it counts as silent.
LEAST_TICKS = 5
# With the store in a file all processes are on one host: nothing but that host can be
# lost, and then nobody is left to wait for its timeout.
DEFAULT_TIMING = Timing()
# With PostgreSQL a lost host is noticed by the heartbeat timeout alone, which therefore
# is shorter than the watchdog's limits: the parent sends the heartbeats of workers that
# are silent, for as long as the SDK bears it.
SEVERAL_HOSTS = Timing(heartbeat_timeout_s=1.5, starved_limit_s=6.0)
STOCK_TIMER_SLACK_S = 1.0


def timing_of(one_host: bool) -> Timing:
    return DEFAULT_TIMING if one_host else SEVERAL_HOSTS


# A worker tells the server so often that it lives. Less often, and the loss of a host
# is seen later; the server's own minimum is 1 s.
WORKER_HEARTBEAT_S = 1.0
# Without a new sign for so long a worker is taken for lost. Lower takes workers of a
# busy machine for lost ones.
WORKER_LOST_S = 3.0
# Without a worker for so long a role is taken for lost, and its waiting tasks are
# re-routed. Lower re-routes while a single process is replaced.
ROLE_UNSERVED_S = 1.4
# Where no worker is older than this everything has just been started: roles that are
# not there yet are waited for.
STARTUP_GRACE_S = 6.0
