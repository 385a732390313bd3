"""
Addresses of peers: what they mean now, and whether anybody answers there.
"""

import asyncio
import socket

ADDRESS_CONNECT_S = 0.5


async def resolve(address: str) -> set[str]:
    """
    Look up what *address* means now: kinship shows members by number.
    """
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )
    except OSError:
        return {address}  # joining it will fail, and say so
    return {_shown(*where[:2]) for *_, where in found}


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def answers(address: str) -> bool:
    """
    Say whether somebody takes connections at *address*.
    """
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ADDRESS_CONNECT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:  # TimeoutError too
        return False
    writer.close()
    return True
