"""
What becomes of an activity whose store is away: it waits, and is given back in time.

It waits where it is, with all it has in hand, since that costs nothing. The server
would count an attempt that is too long, so that one which only waits is given back
shortly before its limit, and begun again later, counted against nobody. No mission
fails of it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from outlast.contracts.failure_details import FailureDetails
from outlast.contracts.failures import Detector, FailureType
from outlast.execution.exceptions import UNCOUNTED_ERRORS
from outlast.store.database import Store

T = TypeVar("T")

# What an attempt needs to end, at most, before its limit.
HANDBACK_END_S = 2.0
HANDBACK_CHECK_S = 0.1

# A store that is away is asked again ever later, up to so long.
HANDBACK_RETRY_FIRST_S = 0.5
HANDBACK_RETRY_MAX_S = 30.0


STORE_UNAVAILABLE = FailureDetails(detected_by=Detector.STORE)


async def end_work(work: asyncio.Task[Any], store: Store) -> str:
    """
    Cancel *work* if it waits for the store shortly before its limit at the server;
    returns what the store lacks.
    """
    await asyncio.sleep(_limit_s())
    while True:
        if (trouble := store.calls.trouble) is not None:
            work.cancel()
            return trouble.text
        await asyncio.sleep(HANDBACK_CHECK_S)


def uncounted_error(
    why: str, store: Store, details: FailureDetails = STORE_UNAVAILABLE
) -> ApplicationError:
    """
    Make the error that has the server try again, counted against nobody.
    """
    trouble = store.calls.trouble
    away_s = 0.0 if trouble is None else time.time() - trouble.since
    pause_s = min(HANDBACK_RETRY_MAX_S, max(HANDBACK_RETRY_FIRST_S, away_s / 4))
    return ApplicationError(
        why,
        details.dump(),
        type=FailureType.STORE_AWAY,
        next_retry_delay=timedelta(seconds=pause_s),
    )


class StoreInterceptor(Interceptor):
    """
    Has every activity of a worker wait for *store*.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002 - the SDK's name
    ) -> ActivityInboundInterceptor:
        return _StoreInbound(super().intercept_activity(next), self._store)


class _StoreInbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, store: Store) -> None:  # noqa: A002
        super().__init__(next)
        self._store = store

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        return await retry_while_store_unavailable(
            lambda: self.next.execute_activity(input), self._store
        )


async def retry_while_store_unavailable(
    act: Callable[[], Coroutine[Any, Any, T]], store: Store
) -> T:
    """
    Await *act*, which writes records, for as long as the server lets it.

    :raises ApplicationError: when the store is to be waited for by the server.
    """
    work = asyncio.current_task()
    assert work is not None
    giving_back = asyncio.ensure_future(end_work(work, store))
    try:
        return await act()
    except UNCOUNTED_ERRORS as error:
        raise uncounted_error(str(error), store) from None
    except asyncio.CancelledError:
        if not giving_back.done():
            raise
        raise uncounted_error(giving_back.result(), store) from None
    finally:
        giving_back.cancel()


def _limit_s() -> float:
    limit = activity.info().start_to_close_timeout
    whole_s = limit.total_seconds() if limit else float("inf")
    return whole_s - min(HANDBACK_END_S, whole_s / 4)
