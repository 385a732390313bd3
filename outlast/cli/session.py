"""
What one command opens: the store of this home and a client of its Temporal.
"""

import asyncio
import contextlib
import sys
import threading
from types import TracebackType
from typing import Any, Self

from temporalio.client import Client
from temporalio.service import RPCError

from outlast.cli.entrypoint import EXIT_INTERRUPTED
from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.dev.stack_client import UsedStack, find_stack, temporal_of
from outlast.dev.stack_state import logs_text
from outlast.ledger.batches import BatchRecord, BatchRecords
from outlast.ledger.missions import MissionRecord, MissionRecords
from outlast.process.called import tell
from outlast.process.opening import open_store
from outlast.settings import has_configured_temporal, settings
from outlast.store.database import Store
from outlast.temporal.connect import connect, require_shared_store
from outlast.temporal.payload_storage import with_storage
from outlast.temporal.updates import RECONCILE_LIMIT_S, send_update, try_reconcile

UPDATES_PAST_TENSE = {
    "approve": "approved",
    "reject": "rejected",
    "pause": "paused",
    "unpause": "goes on",
    "cancel": "cancelled",
    "redrive": "redriven",
}


class Session:
    """
    Opens the store and the client when they are first needed, each once, and closes
    the store with itself.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.stack: UsedStack | None = None  # with --embedded
        self._store = store
        self._client: Client | None = None
        self._opening = threading.Lock()  # the client's storage opens from a thread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        interrupted = getattr(error, "exit_code", 0) == EXIT_INTERRUPTED
        if kind is KeyboardInterrupt or interrupted:
            return  # closing waits for calls: a store that is away would hold Ctrl-C
        if self._store is not None:
            self._store.close()

    @property
    def store(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = open_store(settings())
            return self._store

    @property
    def missions(self) -> MissionRecords:
        return MissionRecords(self.store)

    @property
    def batches(self) -> BatchRecords:
        return BatchRecords(self.store)

    async def client(self, wait_s: float = 0.0) -> Client:
        """
        Connect to the stack that `--embedded` uses, else to the Temporal of the
        environment, else to the stack on this home, waiting for one that is starting.

        :param wait_s: how long to wait for a stack of which there is no sign yet.
        :raises UnavailableError: when there is none, or it does not answer.
        """
        if self._client is None:
            connected = await self._connect(wait_s)
            self._client = with_storage(connected, lambda: self.store)
        return self._client

    async def _connect(self, wait_s: float) -> Client:
        if self.stack is None:
            where = await temporal_of(settings(), note, wait_s)
            return await connect(where, quiet=True)
        try:
            return await connect(self.stack.line.address, quiet=True)
        except UnavailableError as error:
            logs = logs_text(settings().home.resolve())
            raise UnavailableError(f"{error} ({logs})") from None

    async def reconcile(self, *names: str) -> None:
        """
        Make the records of these missions and batches true, or of all that are under
        way, where the server that they are on answers.
        """
        if not has_configured_temporal() and find_stack(settings()) is None:
            return  # the server at the usual port may be another home's
        with contextlib.suppress(OutlastError, RPCError, TimeoutError):
            async with asyncio.timeout(RECONCILE_LIMIT_S):
                client = await self.client()
            await try_reconcile(client, self.store, *names)

    async def update(self, mission: str, name: str, *args: Any) -> None:
        """
        Send an update to a running mission and say that it was taken.

        :raises BadInputError: when it is not under way, or refuses, in its own words.
        """
        await send_update(await self.client(), self.store, mission, name, *args)
        print(f"{mission}: {UPDATES_PAST_TENSE[name]}")

    def mission_records(self, mission: str | None) -> list[MissionRecord]:
        """
        Read the record of *mission*, or of all where it is None.

        :raises BadInputError: when it is not there.
        """
        if mission is None:
            return self.missions.records()
        return [self.require_mission(mission)]

    def require_mission(self, mission: str) -> MissionRecord:
        """
        Look *mission* up in the store.

        :raises BadInputError: when it is not there; says so when it is a batch.
        """
        if (entry := self.missions.find(mission)) is not None:
            return entry
        if self.is_batch(mission):
            raise BadInputError(
                f"{mission!r} is a batch: see it with outlast status {mission}"
            )
        raise BadInputError(
            f"no mission {mission!r} is in the store: see those that are with "
            "outlast list"
        )

    def require_batch(self, batch: str) -> BatchRecord:
        """
        Look *batch* up in the store.

        :raises BadInputError: when it is not there.
        """
        if (entry := self.batches.find(batch)) is not None:
            return entry
        raise BadInputError(
            f"no mission or batch {batch!r} is in the store: see the missions that are "
            "with outlast list"
        )

    def is_batch(self, name: str) -> bool:
        return self.batches.find(name) is not None


def require_local_workers() -> None:
    """
    Make sure, before the store is written, that the workers have the same one.

    :raises BadInputError: when they are elsewhere and the store is a file here.
    """
    if has_configured_temporal() or find_stack(settings()) is None:
        require_shared_store(settings())


def note(text: str) -> None:
    tell(text, file=sys.stderr)
