"""
The clocks and bounds of the mesh. All peers must have the same.
"""

from pydantic import BaseModel, ConfigDict

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
# How often it asks again those that have not answered, and when it continues without
# one that is alive and does not answer.
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
    # How often absent peers are looked for: how long a split outlives its cause.
    rejoin_s: float = 1.0
    # The longest that one exchange over TCP may take.
    stream_s: float = 5.0


SWIM = SwimTiming()
