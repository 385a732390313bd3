"""
How the library for membership is configured; without a key it stays on loopback.
"""

from collections.abc import Mapping

import kinship

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_MESSAGE_BYTES, SWIM
from outlast.mesh.node.membership import PeerConfig, require_encryption

# All peers of one machine come from one address.
MAX_STREAMS = 256
METADATA_BYTES = 900


def swim_config(peer: PeerConfig, metadata: Mapping[str, str]) -> kinship.Config:
    """
    Configure the library; without a key it sends in clear text, on loopback only.

    :raises BadInputError: in one sentence.
    """
    require_encryption(peer)
    preset = kinship.Config.local if peer.key is None else kinship.Config.lan
    keys = {} if peer.key is None else {"keys": [peer.key]}
    try:
        return preset(
            name=peer.name,
            bind=peer.bind,
            cluster="outlast",
            meta=dict(metadata),
            probe_interval=SWIM.probe_s,
            probe_timeout=SWIM.answer_s,
            gossip_interval=SWIM.gossip_s,
            suspicion_mult=SWIM.suspicion,
            awareness_max=SWIM.patience,
            dead_reclaim=SWIM.reclaim_s,
            push_pull_interval=SWIM.push_pull_s,
            reconnect_interval=0,  # we do it, also for those that are long gone
            tcp_timeout=SWIM.stream_s,
            join_retries=1,
            max_meta_bytes=METADATA_BYTES,
            max_user_message=MESH_MESSAGE_BYTES,
            max_inbound_streams=MAX_STREAMS,
            max_inbound_streams_per_ip=MAX_STREAMS,
            **keys,
        )
    except kinship.ConfigError as error:
        raise BadInputError(f"the mesh cannot begin: {error}") from None
