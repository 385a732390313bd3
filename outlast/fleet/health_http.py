"""
The state of the fleet over HTTP, on loopback unless the user says otherwise.

    GET /live     200 while the parent lives
    GET /ready    200 once all its processes poll, else 503
    GET /health   JSON: each process with pid, kind, state, restarts, in_flight, leaked,
                  last sign, breakers; and what the fleet waits for, since when
    GET /metrics  the same for Prometheus
"""

import json
from typing import Any

from outlast.contracts.errors import BadInputError
from outlast.fleet.http_listener import HttpListener, Response
from outlast.fleet.metrics_export import Snapshot, prometheus_page


class HealthServer:
    """
    An HTTP server in a thread of its own, so that it answers while the parent works.

    :param port: 0 for any free one.
    :raises BadInputError: when the port is in use.
    """

    def __init__(self, snapshot: Snapshot, host: str, port: int) -> None:
        try:
            self._listener = HttpListener(
                lambda path: page(path, snapshot()), host, port
            )
        except (OSError, OverflowError) as error:
            raise BadInputError(
                f"health cannot listen on {host}:{port}: {error}"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.port}/health"

    def close(self) -> None:
        self._listener.close()


def page(path: str, snapshot: dict[str, Any]) -> Response:
    match path:
        case "/live":
            return Response(200, "text/plain", b"live\n")
        case "/ready":
            return Response(200 if snapshot["ready"] else 503, "text/plain", b"")
        case "/health":
            body = json.dumps(snapshot).encode()
            return Response(200, "application/json", body)
        case "/metrics":
            return Response(200, "text/plain; version=0.0.4", prometheus_page(snapshot))
        case _:
            told = b"live, ready, health or metrics\n"
            return Response(404, "text/plain", told)
