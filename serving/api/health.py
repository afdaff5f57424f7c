"""The standard health service, which no watcher can hold up.

grpc's own writes to a watcher under the lock that every change of a status needs, so that a watcher who
reads nothing stops them all; and its watches go on for ever, which a stop waits for, and are as many as
anybody likes, so that no room is left for calls.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.api.caller import caller
from serving.api.connections import UNIX
from serving.errors import Exhausted, NotFound
from serving.options import MAX_WATCHES, WATCHES_A_PEER
from serving.quoting import quoted

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
LAST_WORD = 0.1
"""Seconds in which watchers are told NOT_SERVING before their streams end."""
RETRY: Final = 5.0
"""Seconds after which a watch that was refused may be tried again."""

Status = int
"""A number of the proto's enumeration."""
Context = grpc.aio.ServicerContext[Any, Any]


def response_of(status: Status) -> health_pb2.HealthCheckResponse:
    """The message."""
    return health_pb2.HealthCheckResponse(status=status)


class HealthServicer(health_pb2_grpc.HealthServicer):
    """grpc.health.v1; all of it runs in the event loop."""

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {}
        self._news = asyncio.Event()  # set at the next change, then another one takes its place
        self._watches: Counter[str] = Counter()  # by peer: an address and a port, so a connection
        self._by_caller: Counter[str] = Counter()  # by address, or certificate
        self._is_leaving = self._is_over = False

    async def Check(  # noqa: D102 - told by the proto
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._statuses:
            raise NotFound(f"there is no service {quoted(request.service)}")
        return response_of(self._statuses[request.service])

    async def Watch(  # noqa: D102
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        told: Status | None = None
        with self._place_of(context.peer()):
            while True:
                news, status = self._news, self._statuses.get(request.service, UNKNOWN)
                if status != told:
                    told = status
                    yield response_of(status)
                elif self._is_over:
                    return
                else:
                    await news.wait()

    @contextmanager
    def _place_of(self, peer: str) -> Iterator[None]:
        """A place among the watches while one goes on; raises Exhausted."""
        watcher = caller()
        if self._watches[peer] >= WATCHES_A_PEER and not peer.startswith(UNIX):
            raise Exhausted(f"a connection may have {WATCHES_A_PEER} watches of health", RETRY)
        if self._by_caller[watcher] >= MAX_WATCHES // 2:
            raise Exhausted(f"a caller may have {MAX_WATCHES // 2:,} watches of health", RETRY)
        if self._watches.total() >= MAX_WATCHES:
            raise Exhausted(f"there are {MAX_WATCHES:,} watches of health already", RETRY)
        counted = ((self._watches, peer), (self._by_caller, watcher))
        for counter, key in counted:
            counter[key] += 1
        try:
            yield
        finally:
            for counter, key in counted:
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def set(self, service: str, status: Status) -> None:
        """Tell a service's status from now on, unless the server is about to end."""
        if not self._is_leaving:
            self._statuses[service] = status
            self._tell()

    def leave(self) -> None:
        """Say NOT_SERVING for everything, for ever."""
        self._is_leaving = True
        self._statuses = dict.fromkeys(self._statuses, NOT_SERVING)
        self._tell()

    async def end(self) -> None:
        """Say NOT_SERVING for everything, then end every Watch."""
        self.leave()
        await asyncio.sleep(LAST_WORD)
        self._is_over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
