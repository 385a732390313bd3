"""
What an error says of the service that was asked: the one table from error to fault.

    the service failed     5xx, 429, a reset, a time-out, a refused connection
    access was refused     401, 402, 403: a key has expired, somebody must renew it
    the request is wrong   400, 404, 409, 422: another try would fail alike
    nothing                any other error: it is the agent's own

An error is known by the names of its classes, so that no client library is imported
here; by the status that it carries; or by the error that it was raised from.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum


class Fault(StrEnum):
    """
    Whose failure it is when a service was asked in vain.
    """

    SERVICE = "service"
    ACCESS = "access"
    REQUEST = "request"


@dataclass(frozen=True)
class ServiceFailure:
    """
    What an error says of the service.

    :param sent: False only if the request surely never reached the service.
    :param retry_after_s: seconds for which the service asked not to be asked again.
    """

    fault: Fault
    sent: bool = True
    retry_after_s: float | None = None


Classifier = Callable[[BaseException], ServiceFailure | None]

NOT_SENT = ServiceFailure(Fault.SERVICE, sent=False)
FAILED = ServiceFailure(Fault.SERVICE)
# It says less than what it was raised from: "connection error" of "refused".
WRAPPER = ServiceFailure(Fault.SERVICE)

# By the class, or the first of its bases that is here.
BY_CLASS = {
    "builtins.ConnectionRefusedError": NOT_SENT,
    "socket.gaierror": NOT_SENT,
    "ssl.SSLCertVerificationError": NOT_SENT,
    "builtins.ConnectionError": FAILED,
    "builtins.TimeoutError": FAILED,
    "ssl.SSLError": FAILED,
    "http.client.RemoteDisconnected": FAILED,
    "http.client.IncompleteRead": FAILED,
    "httpx.ConnectError": NOT_SENT,
    "httpx.ConnectTimeout": NOT_SENT,
    "httpx.PoolTimeout": NOT_SENT,
    "httpx.ProxyError": NOT_SENT,
    "httpx.TimeoutException": FAILED,
    "httpx.NetworkError": FAILED,
    "httpx.RemoteProtocolError": FAILED,
    "requests.exceptions.ConnectTimeout": NOT_SENT,
    "requests.exceptions.ProxyError": NOT_SENT,
    "requests.exceptions.Timeout": FAILED,
    "requests.exceptions.ConnectionError": WRAPPER,
    "requests.exceptions.ChunkedEncodingError": FAILED,
    "urllib3.exceptions.NewConnectionError": NOT_SENT,
    "urllib3.exceptions.ConnectTimeoutError": NOT_SENT,
    "urllib3.exceptions.EmptyPoolError": NOT_SENT,
    "urllib3.exceptions.ProtocolError": FAILED,
    "urllib3.exceptions.TimeoutError": FAILED,
    "aiohttp.client_exceptions.ClientConnectorError": NOT_SENT,
    "aiohttp.client_exceptions.ConnectionTimeoutError": NOT_SENT,
    "aiohttp.client_exceptions.ClientConnectionError": FAILED,
    "aiohttp.client_exceptions.ClientPayloadError": FAILED,
    "sqlalchemy.exc.TimeoutError": NOT_SENT,
    "sqlalchemy.exc.DisconnectionError": FAILED,
    "sqlalchemy.exc.OperationalError": FAILED,
    "sqlalchemy.exc.InterfaceError": FAILED,
    "psycopg.errors.ConnectionTimeout": NOT_SENT,
    "psycopg_pool.PoolTimeout": NOT_SENT,
    "psycopg.OperationalError": FAILED,
    "redis.exceptions.ConnectionError": FAILED,
    "redis.exceptions.TimeoutError": FAILED,
    "openai.APIConnectionError": WRAPPER,
    "anthropic.APIConnectionError": WRAPPER,
}
# Hosts and networks to which there is no way, for which Python has no class.
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
# Where the status of an answer may be found, and then its headers.
STATUS_NAMES = ("status_code", "status", "code")
TOO_MANY, SERVER_ERRORS = 429, range(500, 600)
# Answers by which a service says that it is not itself, though below 500.
ITS_OWN = {408, TOO_MANY}
ACCESS = {401, 402, 403}
CLIENT_ERRORS = range(400, 500)
# How many errors, each raised from the next, are looked at.
MOST_CAUSES = 10


def classify_service_failure(
    error: BaseException, own: tuple[Classifier, ...] = ()
) -> ServiceFailure | None:
    """
    Say what *error*, or an error that it was raised from, says of the service.

    :param own: asked first, for client libraries that are not known here.
    :returns: None where it says nothing: the failure is the agent's own.
    """
    found = [
        failure for each in causes(error) if (failure := _of_one(each, own)) is not None
    ]
    if not found:
        return None
    wrapped = found[0] is WRAPPER and len(found) > 1
    first = found[1] if wrapped else found[0]
    # What came before it in a chain of tries may have been sent.
    sent = any(each.sent for each in found[1 if wrapped else 0 :])
    return replace(first, sent=sent) if first.fault is Fault.SERVICE else first


def was_not_sent(error: BaseException) -> bool:
    """
    True if what raised *error* surely reached no service.
    """
    failure = classify_service_failure(error)
    return failure is not None and not failure.sent


def causes(error: BaseException) -> Iterator[BaseException]:
    """
    Walk from *error* to what it was raised from, also where a library keeps that in
    `reason` or as its first argument.
    """
    seen = list[BaseException]()
    at: object = error
    while isinstance(at, BaseException) and at not in seen and len(seen) < MOST_CAUSES:
        seen.append(at)
        yield at
        inner = getattr(at, "reason", None) or next(iter(at.args), None)
        inner = inner if isinstance(inner, BaseException) else None
        at = (
            at.__cause__
            or inner
            or (None if at.__suppress_context__ else at.__context__)
        )


def _of_one(error: BaseException, own: tuple[Classifier, ...]) -> ServiceFailure | None:
    for classifier in own:
        if (failure := classifier(error)) is not None:
            return failure
    answer = getattr(error, "response", None)
    for holder in (error, answer):
        if (status := _status(holder)) is not None:
            return of_status(status, _retry_after_s(error, answer))
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return NOT_SENT
    for base in type(error).__mro__:
        name = f"{base.__module__}.{base.__qualname__}"
        if (failure := BY_CLASS.get(name)) is not None:
            return failure
    return None


def of_status(status: int, retry_after_s: float | None = None) -> ServiceFailure | None:
    """
    Say what an HTTP answer with *status* says of the service that gave it.
    """
    if status in ACCESS:
        return ServiceFailure(Fault.ACCESS)
    if status in ITS_OWN or status in SERVER_ERRORS:
        return ServiceFailure(Fault.SERVICE, retry_after_s=retry_after_s)
    return ServiceFailure(Fault.REQUEST) if status in CLIENT_ERRORS else None


def _status(holder: object) -> int | None:
    for name in STATUS_NAMES:
        value = getattr(holder, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return int(value)
    return None


def _retry_after_s(*holders: object) -> float | None:
    """
    Read `Retry-After` in seconds; a date there is left to the circuit's own pauses.
    """
    for holder in holders:
        headers = getattr(holder, "headers", None)
        read = getattr(headers, "get", None)
        value = read("retry-after") if callable(read) else None
        if isinstance(value, str) and value.strip().isdecimal():
            return float(value)
    return None
