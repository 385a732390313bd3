"""
Every duration and count that decides about failure, and the arithmetic over them.

No workflow and no worker spells a number of its own. `predict_recovery` is a pure
function, so that a configuration which cannot keep its promise is refused before it
starts.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from outlast.contracts.errors import BadInputError

# How long an attempt may be held for want of the mesh's word. Longer uses up the
# attempt limit, shorter fills the history of a run that is held for hours.
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
        How long an attempt waits for the mesh's word before it is handed on: its limit
        goes on meanwhile, and being held is no failure.
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

# The mesh. A peer compares its log with one other so often: higher and what was lost on
# the way is missing for longer, lower and quiet costs more. Not felt otherwise, because
# what is new is sent to everybody at once.
MESH_DIGEST_S = 1.0
# The copies that a submission asks for unless told otherwise: of so many peers all but
# one may be lost for ever. How long it waits for them, before fewer are said.
MESH_COPIES = 2
MESH_ACK_S = 2.0
# Without a tick for this long a peer may have been declared dead (0.8 s at the
# earliest): it holds its runs until it has looked.
MESH_FROZEN_S = 0.7
# Who was heard so lately is not taken for dead: less than the failure detection needs,
# so that no death waits for it.
MESH_RECENT_S = 1.0
# How long a peer that starts or wakes waits for others to be seen, before it believes
# that it is alone; each start costs it.
MESH_SETTLE_S = 1.0
# How often it asks again those that have not answered, and when it goes on without one
# that is alive and says nothing.
MESH_RETRY_S = 0.3
MESH_UNRESPONSIVE_S = 5.0
# Progress is replicated so often, so many tasks at a time: what a death costs at most,
# and the most that checkpoints cost the network.
MESH_CHECKPOINT_S = 0.5
MESH_CHECKPOINTS = 20
# The mesh waits a day for a peer before it compacts what that has not seen, and keeps
# a finished task for a week.
MESH_COMPACT_S = 60.0
MESH_FORGET_S = 86_400.0
MESH_KEEP_S = 7 * 86_400.0
# What a chunk of events and an event may have, and a packed message: each start of a
# peer stays in every digest for good, with ten bytes or so.
MESH_COMPRESSION_BYTES = 32 * 1024
MESH_EVENT_BYTES = 48 * 1024
MESH_MESSAGE_BYTES = 1024 * 1024
MESH_UNPACKED_BYTES = 4 * 1024 * 1024


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
    # How long a dead workflow process is waited for before another one takes over.
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


# Whatever the server was told, a worker's SDK cancels an attempt by itself so long
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
STOCK_SERVER_TIMING = Timing(timer_slack_s=STOCK_TIMER_SLACK_S)


def timing_of(one_host: bool) -> Timing:
    """
    Choose the clocks by whether the store serves one host or several.
    """
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


# How long a peer's word that a run may go on is good, and how often it is given again.
# Shorter than the others need to declare the peer dead, so that one that was frozen
# wakes without it; much shorter and a busy machine holds agents for nothing.
RUN_PERMIT_TTL_S = 0.6
MESH_TICK_S = 0.1
# A fleet asks its gossip process so often how it is, and kills one that hangs: that
# has not answered so many times running, 20 s. Fewer kills one that is only slow on a
# busy machine, or still imports; more lets its runs be held for longer.
MESH_ANSWER_S = 2.0
MESH_MAX_MISSED_ANSWERS = 10
# Before it has answered for the first time, so many more: it reads its whole log.
MESH_BOOT_MAX_MISSED_ANSWERS = 50
# How often a peer looks for new checkpoints of its runs in its ledger.
MESH_CHECK_S = 0.2
# Runs that a peer has under way on its endpoint at once; the others wait their turn.
MAX_MESH_RUNS = 50


class SwimTiming(BaseModel):
    """
    The clocks of the mesh's failure detection, in seconds. All peers have the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Each peer asks another one for a sign so often; half of it for the direct answer,
    # the rest for an answer by way of others. Lower is noticed sooner and costs more.
    probe_s: float = 0.2
    answer_s: float = 0.1
    # How often news is passed on while there is some.
    gossip_s: float = 0.1
    # A suspect has at least so many probes' time to contradict: 0.6 s, which a pause of
    # 0.3 s leaves room in. One more adds 0.2 s to every detection.
    suspicion: int = 3
    # A peer whose own probes fail slows down by up to so many steps, rather than accuse
    # others. More makes a loaded machine more patient, and one that is cut off from
    # most of the mesh later to see it.
    patience: int = 3
    # How long a dead peer's name is kept for its old address.
    reclaim_s: float = 10.0
    # How often two peers compare all they know of the members, for what gossip has
    # lost. Of what quiet costs, this alone grows with the mesh: at 5 s by a third from
    # 3 peers to 10.
    push_pull_s: float = 30.0
    # Whoever is not there is looked for so often: how long a split outlives its cause.
    rejoin_s: float = 1.0
    # The longest that one exchange over TCP may take.
    stream_s: float = 5.0


SWIM = SwimTiming()


@dataclass(frozen=True)
class RecoveryEstimate:
    """
    The worst seconds from a fault to new progress, and the setting it hangs on.

    :param patient: the fault looks like slow work, which is given its time: no target
        is set for it.
    """

    fault: str
    worst_s: float
    by: str
    patient: bool = False


def predict_recovery(timing: Timing) -> list[RecoveryEstimate]:
    """
    Predict the worst recovery of each fault under *timing*.
    """
    after = timing.timer_slack_s + timing.dispatch_s
    killed = timing.tick_s + timing.check_s + timing.kill_s + timing.dispatch_s
    one_host = not timing.parent_heartbeats  # and nobody is left when that is lost
    return [
        RecoveryEstimate("agent process killed", timing.dispatch_s, "dispatch_s"),
        RecoveryEstimate(
            "agent process frozen", timing.stopped_limit_s + killed, "stopped_limit_s"
        ),
        RecoveryEstimate(
            "event loop blocked",
            timing.blocked_limit_s + killed,
            "blocked_limit_s",
            patient=True,
        ),
        RecoveryEstimate(
            "host lost, or its link",
            timing.heartbeat_timeout_s + after,
            "heartbeat_timeout_s",
            patient=one_host,
        ),
        RecoveryEstimate(
            "workflow process lost, unreported, idle",
            timing.sticky_s + after,
            "sticky_s",
        ),
        RecoveryEstimate(
            "workflow process lost, during a task",
            timing.workflow_task_s + after,
            "workflow_task_s",
        ),
        RecoveryEstimate(
            "agent raised, first retry", BACKOFF_FIRST_S + after, "BACKOFF_FIRST_S"
        ),
    ]


def validate_timing(timing: Timing, target_s: float) -> None:
    """
    Refuse a *timing* that contradicts itself or cannot recover within *target_s*.

    :raises BadInputError: in one sentence.
    """
    for contradiction in (
        _of_heartbeats(timing),
        _of_limits(timing),
        _of_silence(timing),
    ):
        if contradiction:
            raise BadInputError(contradiction)
    bound = [each for each in predict_recovery(timing) if not each.patient]
    worst = max(bound, key=lambda each: each.worst_s)
    if worst.worst_s > target_s:
        raise BadInputError(
            f"{worst.fault}: recovery may take {worst.worst_s:.2f} s, over the target "
            f"of {target_s:g} s; lower {worst.by}"
        )


def _of_heartbeats(timing: Timing) -> str | None:
    if timing.heartbeat_s * 2 <= timing.heartbeat_timeout_s:
        return None
    return (
        f"a beat every {timing.heartbeat_s:g} s leaves no room for a lost one within a "
        f"heartbeat timeout of {timing.heartbeat_timeout_s:g} s"
    )


def _of_limits(timing: Timing) -> str | None:
    least_s = LEAST_TICKS * timing.tick_s
    for name in ("stopped_limit_s", "blocked_report_s"):
        if getattr(timing, name) < least_s:
            return (
                f"{name} of {getattr(timing, name):g} s would take healthy processes "
                f"for silent ones, which give a sign every {timing.tick_s:g} s: choose "
                f"at least {least_s:g}"
            )
    if timing.blocked_report_s <= timing.blocked_limit_s <= timing.starved_limit_s:
        return None
    return (
        f"the limits of a silent worker do not grow: told after "
        f"{timing.blocked_report_s:g} s, killed after {timing.blocked_limit_s:g} s "
        f"when blocked and {timing.starved_limit_s:g} s when starved"
    )


def _of_silence(timing: Timing) -> str | None:
    """
    Say how a worker that works hard would be taken for a lost host.
    """
    if not timing.parent_heartbeats:
        return None
    looks_s = timing.tick_s + timing.check_s
    first_s = timing.heartbeat_s + timing.parent_heartbeats_after_s + looks_s
    if first_s >= timing.heartbeat_timeout_s:
        return (
            f"a heartbeat timeout of {timing.heartbeat_timeout_s:g} s ends attempts of "
            f"a silent worker before its parent sends heartbeats for it, {first_s:g} s "
            "after its last: raise heartbeat_timeout_s or lower beat_s"
        )
    bearable_s = timing.heartbeat_timeout_s + SDK_GRACE_S
    if timing.silence_s < bearable_s:
        return None
    return (
        f"a worker may be silent for {timing.silence_s:g} s, and {bearable_s:g} s "
        "after its last heartbeat its attempts are cancelled whatever it does: lower "
        "a limit of its silence, as OUTLAST_UNRESPONSIVE_S, or raise "
        "heartbeat_timeout_s"
    )
