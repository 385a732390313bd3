"""
The one way to a Temporal server: the SDK's own environment and profiles.
"""

import asyncio
import contextlib
import ipaddress
import logging
from datetime import timedelta
from typing import Any

from temporalio.client import Client, KeepAliveConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime, TelemetryConfig

from outlast.contracts.errors import BadInputError, UnavailableError

# A cut link is noticed after 5 s of silence and 5 s without an answer; the SDK's
# own 30 s and 15 s would leave a worker talking to nobody for most of a minute.
KEEP_ALIVE = KeepAliveConfig(interval_millis=5_000, timeout_millis=5_000)

# How often a worker tells the server that it lives; `starter.py doctor` lists them.
WORKER_SIGN = timedelta(seconds=2)

ADDRESS = "localhost:7233"
AGAIN_S = 0.2

logger = logging.getLogger("outlast.runtime")


async def connect(address: str | None = None, identity: str | None = None) -> Client:
    """
    Connect to *address*, or to where the TEMPORAL_* environment says.

    :raises UnavailableError: when nobody answers there, with what to do.
    """
    config = configuration(address)
    if identity is not None:
        config["identity"] = identity
    try:
        return await Client.connect(
            **config,
            data_converter=pydantic_data_converter,
            keep_alive_config=KEEP_ALIVE,
            runtime=_runtime(),
        )
    except (RuntimeError, OSError) as error:
        raise UnavailableError(
            f"no Temporal answers at {config['target_host']}: start one with "
            "`make dev` (starter.py dev) or set TEMPORAL_ADDRESS"
        ) from error


async def connect_patiently(stop: asyncio.Event, identity: str) -> Client | None:
    """
    Connect as soon as the server answers: its absence is no reason to die. None when
    *stop* was set before.
    """
    told = False
    while not stop.is_set():
        try:
            return await connect(identity=identity)
        except UnavailableError as error:
            if not told:
                logger.warning("server.away: %s", error)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), AGAIN_S)
    return None


def configuration(address: str | None = None) -> dict[str, Any]:
    """
    Load how to connect: *address* wins over the environment and its profile.
    """
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInputError(f"the TEMPORAL_* configuration: {error}") from None
    config.setdefault("target_host", ADDRESS)
    if address is not None:
        config["target_host"] = address
    return config


def on_loopback(address: str) -> bool:
    """
    Say whether *address* (host:port) is on this machine.
    """
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_made: list[Runtime] = []


def _runtime() -> Runtime:
    if not _made:
        telemetry = TelemetryConfig()
        _made.append(
            Runtime(telemetry=telemetry, worker_heartbeat_interval=WORKER_SIGN)
        )
    return _made[0]
