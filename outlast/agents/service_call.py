"""
A call to an outside service within an agent: what goes wrong there is the service's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
)
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from outlast.contracts.errors import (
    CircuitOpenError,
    OutlastError,
    RefusedError,
    ServiceError,
    TryLater,
)
from outlast.execution.exceptions import (
    FINAL_ERRORS,
    UNCOUNTED_ERRORS,
    cause_of,
    error_text,
)
from outlast.execution.service_failures import (
    Fault,
    ServiceFailure,
    causes,
    classify_service_failure,
)
from outlast.execution.services import ServiceCall, ServiceId, Services
from outlast.ledger.circuit_decision import CallFailure

# What ends an attempt in its own way, though a service may have failed before it.
DECIDED_OTHERWISE = (*FINAL_ERRORS, *UNCOUNTED_ERRORS, RefusedError)


@dataclass
class ServiceTrouble:
    """
    What the services that an attempt has asked have done to it.
    """

    failed: list[tuple[BaseException, ServiceId]] = field(default_factory=list)

    @contextmanager
    def noting(self, tenant: str) -> Iterator[None]:
        """
        Note the service that is not even asked within, since its circuit is open.
        """
        try:
            yield
        except CircuitOpenError as error:
            self.failed.append((error, ServiceId(tenant, error.service)))
            raise

    def behind(self, error: BaseException) -> ServiceId | None:
        """
        Find the service by whose failure *error* came about; None where it did not, or
        where the agent or its context has decided otherwise since: it has given up,
        asks a person, or waits for the store.
        """
        if not isinstance(error, CircuitOpenError) and isinstance(
            error, DECIDED_OTHERWISE
        ):
            return None
        for cause in causes(error):
            for raised, service in self.failed:
                if raised is cause:
                    return service
        return None


class GuardedCall(AbstractAsyncContextManager[None], AbstractContextManager[None]):
    """
    One call to *service*: `async with` it, or `with` it in a thread.

    :param run_sync: awaits for a thread, and refuses on the event loop's own.
    """

    def __init__(
        self,
        services: Services,
        service: ServiceId,
        trouble: ServiceTrouble,
        run_sync: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._services = services
        self._service = service
        self._trouble = trouble
        self._run_sync = run_sync
        self._call: ServiceCall | None = None

    async def __aenter__(self) -> None:
        with self._trouble.noting(self._service.tenant):
            self._call = await self._services.begin(self._service)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._call is not None
        if error is None:
            await self._services.succeeded(self._call)
            return
        error = cause_of(error)  # of a group, the error that decides
        failure = failure_of_service(error)
        if failure is None:
            await self._services.abandoned(self._call)
        elif failure.fault is Fault.REQUEST:
            await self._services.succeeded(self._call)  # it has answered
        else:
            self._trouble.failed.append((error, self._service))
            refused = failure.fault is Fault.ACCESS
            told = CallFailure(error_text(error), refused, failure.retry_after_s)
            await self._services.failed(self._call, told)

    def __enter__(self) -> None:
        if is_on_loop():
            raise TypeError(
                "`with ctx.service(...)` would hold the event loop: write `async with`"
            )
        self._run_sync(self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run_sync(self.__aexit__(kind, error, trace))


def is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def failure_of_service(error: BaseException) -> ServiceFailure | None:
    """
    Say what *error*, raised while a service was asked, says of it.
    """
    if isinstance(error, ServiceError):
        return ServiceFailure(Fault.SERVICE)
    if isinstance(error, TryLater):
        asked_s = error.after.total_seconds()
        return ServiceFailure(Fault.SERVICE, retry_after_s=asked_s)
    if isinstance(error, OutlastError):
        return None  # the agent's own word: it says nothing of the service
    return classify_service_failure(error)
