"""
How the library for membership is set up, and what it must never be asked to do.
"""

from collections.abc import Mapping

import kinship

from outlast.contracts.errors import BadInputError
from outlast.contracts.mesh_timing import MESH_MESSAGE_BYTES, SWIM
from outlast.mesh.node.membership import PeerConfig
from outlast.temporal.connect import on_loopback

# All peers of one machine come from one address.
MAX_STREAMS = 256
METADATA_BYTES = 900


def swim_config(place: PeerConfig, facts: Mapping[str, str]) -> kinship.Config:
    """
    Configure the library; without a key it speaks plainly, on loopback only.

    :raises BadInputError: in one sentence.
    """
    _require_encryption(place)
    preset = kinship.Config.local if place.key is None else kinship.Config.lan
    keys = {} if place.key is None else {"keys": [place.key]}
    try:
        return preset(
            name=place.name,
            bind=place.bind,
            cluster="outlast",
            meta=dict(facts),
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


def _require_encryption(place: PeerConfig) -> None:
    if place.key is None and not on_loopback(place.bind):
        raise BadInputError(
            f"--bind {place.bind} is not on loopback, where peers speak encrypted "
            "only: set OUTLAST_MESH_KEY, the same for all (outlast mesh key)"
        )
