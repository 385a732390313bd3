"""
The one way to a Temporal server: the SDK's own environment and profiles.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from datetime import timedelta
from typing import Any

from temporalio.client import Client, KeepAliveConfig
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from outlast.contracts.errors import BadInputError, UnavailableError
from outlast.contracts.timing import WORKER_HEARTBEAT_S
from outlast.settings import Settings
from outlast.telemetry import setup
from outlast.temporal.conversion import CONVERTER

# A cut link is noticed after 5 s of silence and 5 s without an answer; the SDK's
# own 30 s and 15 s would leave a worker talking to nobody for most of a minute.
KEEP_ALIVE = KeepAliveConfig(interval_millis=5_000, timeout_millis=5_000)

# How often a worker tells the server that it lives: `outlast workers` lists them,
# and the lookout takes a role for lost without such signs.
WORKER_HEARTBEAT_INTERVAL = timedelta(seconds=WORKER_HEARTBEAT_S)

CONNECT_RETRY_S = 0.2

# As the SDK has it; and without its lines on calls that it tries again.
LOG_CORE = TelemetryFilter(core_level="WARN", other_level="ERROR").formatted()
LOG_CORE_QUIET = f"{LOG_CORE},temporalio_client::retry=off"

logger = logging.getLogger("outlast.process")


async def connect(
    address: str | None = None, identity: str | None = None, *, quiet: bool = False
) -> Client:
    """
    Connect to *address*, or to where the TEMPORAL_* environment says; never to the
    usual port unasked.

    :param quiet: leave out the SDK's own lines on calls that it tries again; decided by
        a process's first connection.
    :raises UnavailableError: when nobody answers there, with what to do.
    """
    config = configuration(address)
    if not config.get("target_host"):
        raise UnavailableError(
            "no Temporal is named: start one with `outlast dev` or set TEMPORAL_ADDRESS"
        )
    if identity is not None:
        config["identity"] = identity
    try:
        return await Client.connect(
            **config,
            data_converter=CONVERTER,
            keep_alive_config=KEEP_ALIVE,
            runtime=_runtime(quiet),
            interceptors=setup.interceptors(),
        )
    except (RuntimeError, OSError) as error:
        raise UnavailableError(
            f"no Temporal answers at {config['target_host']}: start one with "
            "`outlast dev` or set TEMPORAL_ADDRESS"
        ) from error


async def connect_when_available(stop: asyncio.Event, identity: str) -> Client | None:
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
                logger.warning("server.unavailable: %s", error)
            told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CONNECT_RETRY_S)
    return None


def configuration(address: str | None = None) -> dict[str, Any]:
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInputError(
            f"the TEMPORAL_* configuration does not fit: {error}"
        ) from None
    if address is not None:
        config["target_host"] = address
    return config


def configured_address() -> str | None:
    return configuration().get("target_host") or None


def describe_address(client: Client) -> str:
    return client.service_client.config.target_host


def require_shared_store(chosen: Settings, address: str | None = None) -> None:
    """
    Make sure that all who use the store are where it is: a file serves one host.

    :param address: of the Temporal, or None for what the environment says.
    :raises BadInputError: when a file is the store and the Temporal is elsewhere.
    """
    if chosen.database_url is not None or chosen.single_host:
        return
    target = address or configured_address()
    if target is not None and not on_loopback(target):
        raise BadInputError(
            f"Temporal at {target} is not on this machine, but the store is a file "
            "here: set OUTLAST_DATABASE_URL, or, if all starters and workers run on "
            "this one host, OUTLAST_SINGLE_HOST=true (outlast-worker --single-host)"
        )


def on_loopback(address: str) -> bool:
    """
    Say whether *address* (host:port) can only be on this machine.

    A name is if all that it resolves to is. A wildcard such as 0.0.0.0 is not, nor is
    this machine's address in its network, at which other hosts' workers would poll.
    """
    host = _host(address)
    try:
        return _is_loopback(host)
    except ValueError:
        pass  # a name
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return all(_is_loopback(str(where[0])) for *_, where in found)


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback(host: str) -> bool:
    """
    Say whether the IP address *host* is a loopback one, also as IPv4 within IPv6.

    :raises ValueError: when it is none.
    """
    found = ipaddress.ip_address(host)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


_runtimes: list[Runtime] = []


def _runtime(quiet: bool) -> Runtime:
    if not _runtimes:
        logs = LoggingConfig(filter=LOG_CORE_QUIET if quiet else LOG_CORE)
        setup = TelemetryConfig(logging=logs)
        _runtimes.append(
            Runtime(
                telemetry=setup, worker_heartbeat_interval=WORKER_HEARTBEAT_INTERVAL
            )
        )
    return _runtimes[0]
