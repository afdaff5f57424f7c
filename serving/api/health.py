"""The standard health service, whose watchers do not hold up the end of a server."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LAST_WORD = 0.1
"""Seconds in which watchers are told NOT_SERVING before their streams end."""


class HealthServicer(health.aio.HealthServicer):
    """grpc.health.v1, with an end: a Watch goes on for ever otherwise, and a stop waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._over = asyncio.Event()

    async def Watch(  # noqa: D102 - told by the proto
        self,
        request: health_pb2.HealthCheckRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> None:
        tasks = {
            asyncio.ensure_future(super().Watch(request, context)),
            asyncio.ensure_future(self._over.wait()),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def end(self) -> None:
        """Say NOT_SERVING for everything, then end every Watch."""
        await self.enter_graceful_shutdown()
        await asyncio.sleep(LAST_WORD)
        self._over.set()
