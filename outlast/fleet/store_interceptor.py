"""
Bookkeeping activities wait for a store that is away, and the server retries them: no
mission fails because of it.
"""

from typing import Any

from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from outlast.execution.handback import retry_while_store_unavailable
from outlast.store.database import Store


class StoreInterceptor(Interceptor):
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
