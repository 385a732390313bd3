"""
Temporal's external storage in our store: what is larger than PAYLOAD_BYTES travels as
a reference, whatever it is, and is read where it is needed.

A reference is as lasting as the mission's rows in the store: a history that outlives
them, as after `prune`, can be looked at and not replayed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverSelectContext,
    StorageDriverStoreContext,
)

from outlast.contracts.errors import StoreError, StoreUnavailableError
from outlast.contracts.sizes import PAYLOAD_BYTES
from outlast.ledger.payloads import get, putting
from outlast.store.database import Store
from outlast.temporal.conversion import INLINE

T = TypeVar("T")

# Well within a heartbeat timeout.
STORE_UNAVAILABLE_S = 0.8


class StoreDriver(StorageDriver):
    """
    Keeps payloads in a store, each for the mission or batch whose workflow it is sent
    to or comes from.

    :param opened: opens the store, once and when the first payload needs it.
    """

    def __init__(self, opened: Callable[[], Store]) -> None:
        self._opened = opened
        self._store: Store | None = None

    def name(self) -> str:
        return "store"

    def type(self) -> str:
        return "outlast.store"

    def choose(
        self, context: StorageDriverSelectContext, payload: Payload
    ) -> StorageDriver | None:
        """
        Take what is large, has an owner and is kept by Temporal.
        """
        kept = INLINE not in payload.metadata
        return self if kept and _owner(context) else None

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        owner, bodies = _owner(context), [each.SerializeToString() for each in payloads]
        store = await self._open()
        digests = await _unless_unavailable(
            store, store.start_call(_put, store, owner, bodies)
        )
        return [
            StorageDriverClaim({"mission": owner, "digest": each}) for each in digests
        ]

    async def retrieve(
        self,
        context: StorageDriverRetrieveContext,
        claims: Sequence[StorageDriverClaim],
    ) -> list[Payload]:
        store = await self._open()
        wanted = [each.claim_data for each in claims]
        bodies = await _unless_unavailable(store, store.start_call(_get, store, wanted))
        return [Payload.FromString(each) for each in bodies]

    async def _open(self) -> Store:
        if self._store is None:
            self._store = await asyncio.to_thread(self._opened)
        return self._store


def with_storage(client: Client, opened: Callable[[], Store]) -> Client:
    """
    Make the *client* whose large payloads lie in the store that *opened* returns.
    """
    driver = StoreDriver(opened)
    storage = ExternalStorage([driver], driver.choose, PAYLOAD_BYTES)
    converter = replace(client.data_converter, external_storage=storage)
    config = client.config()
    config["data_converter"] = converter
    return Client(**config)


async def _unless_unavailable(store: Store, call: "asyncio.Future[T]") -> T:
    """
    Await *call*; where the store is in trouble give up soon: an activity whose input is
    being read has no heartbeat yet, and the server tries again.

    :raises StoreUnavailableError: when it is.
    """
    try:
        while not call.done():
            await asyncio.wait({call}, timeout=STORE_UNAVAILABLE_S)
            if not call.done() and (trouble := store.calls.trouble) is not None:
                raise StoreUnavailableError(trouble.text)
        return call.result()
    finally:
        call.cancel()


def _owner(
    context: StorageDriverStoreContext | StorageDriverSelectContext,
) -> str:
    return (context.target and context.target.id) or ""


def _put(store: Store, owner: str, bodies: list[bytes]) -> list[str]:
    with store.write() as connection:
        return putting(owner, bodies)(connection)


def _get(store: Store, wanted: list[Mapping[str, str]]) -> list[bytes]:
    with store.read() as connection:
        found = [get(connection, each["mission"], each["digest"]) for each in wanted]
    for each, body in zip(wanted, found, strict=True):
        if body is None:
            raise StoreError(
                f"a payload of {each['mission']} is not in the store at {store.place}: "
                "it was forgotten there, or this is not the store of that mission"
            )
    return [each for each in found if each is not None]
