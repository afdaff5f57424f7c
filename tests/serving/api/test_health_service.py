"""grpc.health.v1: watchers hear every change, and none of them can hold anything up."""

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from serving.api.health import NOT_SERVING, SERVING, UNKNOWN, HealthServicer
from serving.errors import NotFound


def request(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario(HealthServicer()), 10))


def test_a_watcher_hears_each_change_and_the_end() -> None:
    async def scenario(health: HealthServicer) -> None:
        health.set("", SERVING)
        watch: Any = health.Watch(request(), None)  # type: ignore[arg-type]
        assert (await anext(watch)).status == SERVING
        health.set("other", SERVING)
        health.set("", NOT_SERVING)
        assert (await anext(watch)).status == NOT_SERVING
        health.set("", SERVING)
        assert (await anext(watch)).status == SERVING
        ending = asyncio.ensure_future(health.end())
        assert (await anext(watch)).status == NOT_SERVING
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        await ending

    run(scenario)


def test_a_watcher_who_reads_nothing_holds_up_nothing() -> None:
    """Its stream stands still where it was written to; grpc's own service stopped every change then."""

    async def scenario(health: HealthServicer) -> None:
        health.set("", SERVING)
        stuck: Any = health.Watch(request(), None)  # type: ignore[arg-type]
        await anext(stuck)  # and nobody asks for what comes after
        health.set("", NOT_SERVING)
        health.leave()
        await health.end()
        assert (await health.Check(request(), None)).status == NOT_SERVING  # type: ignore[arg-type]
        await stuck.aclose()

    run(scenario)


def test_what_is_not_known_is_watched_until_it_is() -> None:
    async def scenario(health: HealthServicer) -> None:
        watch: Any = health.Watch(request("new"), None)  # type: ignore[arg-type]
        assert (await anext(watch)).status == UNKNOWN
        with pytest.raises(NotFound):
            await health.Check(request("new"), None)  # type: ignore[arg-type]
        health.set("new", SERVING)
        assert (await anext(watch)).status == SERVING

    run(scenario)


def test_a_server_that_leaves_is_not_serving_whatever_is_said_after() -> None:
    async def scenario(health: HealthServicer) -> None:
        health.set("", SERVING)
        health.leave()
        health.set("", SERVING)
        assert (await health.Check(request(), None)).status == NOT_SERVING  # type: ignore[arg-type]

    run(scenario)
