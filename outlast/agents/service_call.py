"""
A call to an outside service within an agent: what goes wrong there is the service's.
"""

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
    ServiceError,
    TryLater,
)
from outlast.execution.exceptions import error_text
from outlast.execution.service_failures import (
    Fault,
    ServiceFailure,
    causes,
    classify_service_failure,
)
from outlast.execution.services import ServiceCall, ServiceId, Services
from outlast.ledger.circuit_decision import CallFailure


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
        Find the service by whose failure *error* came about; None where it did not.
        """
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
        self._run_sync(self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run_sync(self.__aexit__(kind, error, trace))


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
