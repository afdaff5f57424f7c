"""/metrics, /healthz and /readyz over HTTP, at an address of their own and in threads of their own.

So they answer while the event loop is busy, and nothing of the API is open where they are.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from socket import SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from serving import addresses, listening

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

MOST = 16
"""Requests at a time; who comes after that is hung up on."""
PATIENCE = 5.0
"""Seconds for a request, from its first byte to the last of the answer; who takes longer is hung up on."""

Check = Callable[[], str]
"""Why something is not as it should be; empty if it is."""


class Endpoint:
    """An HTTP server. `start` binds it.

    Args:
        listen: host:port; port 0 takes a free one.
        registry: what /metrics tells.
        checks: by path.

    Attributes:
        port: the one that is bound.
    """

    def __init__(
        self, listen: str, registry: CollectorRegistry, checks: Mapping[str, Check]
    ) -> None:
        self.listen = listen
        self.port = 0
        self._pages: dict[str, WSGIApplication] = {
            "/metrics": make_wsgi_app(registry),
            **{path: page_of(check) for path, check in checks.items()},
        }
        self._servers: list[_Server] = []

    @property
    def address(self) -> str:
        """host:port that is bound."""
        return addresses.with_port(self.listen, self.port)

    def start(self) -> None:
        """Bind every address that the host has and answer from now on.

        Raises:
            Unavailable: one of them cannot be bound.
        """
        room = threading.BoundedSemaphore(MOST)
        for bound in listening.listen("metrics_listen", self.listen):
            server = _Server(bound, room)
            server.set_app(self._route)
            self.port = int(server.server_port)
            self._servers.append(server)
            serve = partial(
                server.serve_forever, poll_interval=0.2
            )  # the longest that a stop takes
            threading.Thread(target=serve, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _route(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        if page is None:
            return text(start, "404 Not Found", f"there are {', '.join(self._pages)}")
        return page(environ, start)


def page_of(check: Check) -> "WSGIApplication":
    """200 as long as the check finds nothing, then 503 with the reason."""

    def page(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        reason = check()
        return text(start, "503 Service Unavailable" if reason else "200 OK", reason or "ok")

    return page


def text(start: "StartResponse", status: str, line: str) -> Iterable[bytes]:
    """A page of one line."""
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{line}\n".encode()]


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come too often to be told."""


class _Server(ThreadingWSGIServer):
    def __init__(self, bound: socket, room: threading.BoundedSemaphore) -> None:
        self._room = room
        self._begun: dict[Any, float] = {}
        super().__init__(bound.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        # Not by server_bind, which asks the network for the host's name.
        self.server_name, self.server_port = map(str, bound.getsockname()[:2])  # type: ignore
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._begun[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started, which would have given the room back
            self._end(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._end(request)

    def _end(self, request: Any) -> None:
        del self._begun[request]
        self._room.release()

    def service_actions(self) -> None:
        """Hang up on those who have had their time; called at each turn.

        A time-out of the socket begins anew with each byte, so that one every few seconds would do.
        """
        latest = time.monotonic() - PATIENCE
        for request in [one for one, begun in list(self._begun.items()) if begun < latest]:
            with suppress(OSError):  # it has ended in this moment
                request.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The one who asked has gone, as a rule."""
        log.debug("a request for metrics failed", exc_info=True)
