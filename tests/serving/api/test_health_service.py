"""grpc.health.v1: watchers hear every change, and none of them can hold anything up."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.api import health as health_module
from serving.api.health import NOT_SERVING, SERVING, UNKNOWN, HealthServicer
from serving.api.status import error_of
from serving.errors import Exhausted, NotFound
from serving.options import MAX_CALLS, MAX_WATCHES, WATCHES_A_PEER


def request(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


class Connection:
    """A context of calls that come by it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def peer(self) -> str:
        return self._name


PEER: Any = Connection("ipv4:192.0.2.1:1")


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario(HealthServicer()), 10))


def test_a_watcher_hears_each_change_and_the_end() -> None:
    async def scenario(health: HealthServicer) -> None:
        health.set("", SERVING)
        watch: Any = health.Watch(request(), PEER)
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
        stuck: Any = health.Watch(request(), PEER)
        await anext(stuck)  # and nobody asks for what comes after
        health.set("", NOT_SERVING)
        health.leave()
        await health.end()
        assert (await health.Check(request(), None)).status == NOT_SERVING  # type: ignore[arg-type]
        await stuck.aclose()

    run(scenario)


def test_what_is_not_known_is_watched_until_it_is() -> None:
    async def scenario(health: HealthServicer) -> None:
        watch: Any = health.Watch(request("new"), PEER)
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


async def watched(health: HealthServicer, connection: Any) -> Any:
    """A watch that has been told the first status."""
    watch: Any = health.Watch(request(), connection)
    await anext(watch)
    return watch


async def check_full(health: HealthServicer, connection: Any, reason: str) -> None:
    with pytest.raises(Exhausted, match=reason) as caught:
        await watched(health, connection)
    assert caught.value.retry_after > 0


def test_a_connection_has_so_many_watches_and_others_have_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_module, "WATCHES_A_PEER", 2)

    async def scenario(health: HealthServicer) -> None:
        watches = [await watched(health, PEER) for _ in range(2)]
        await check_full(health, PEER, "a connection may have 2 watches")
        watches.append(await watched(health, Connection("ipv4:192.0.2.1:2")))
        await watches[0].aclose()
        watches.append(await watched(health, PEER))
        await check_full(health, PEER, "a connection may have 2 watches")

    run(scenario)


def test_connections_of_a_unix_socket_are_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_module, "WATCHES_A_PEER", 1)

    async def scenario(health: HealthServicer) -> None:
        health.set("", SERVING)
        connection: Any = Connection("unix:")
        watches: list[Any] = [health.Watch(request(), connection) for _ in "ab"]
        assert [(await anext(watch)).status for watch in watches] == [SERVING] * 2
        for watch in watches:
            await watch.aclose()

    run(scenario)


def test_all_watches_together_leave_room_for_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WATCHES <= MAX_CALLS / 4
    monkeypatch.setattr(health_module, "MAX_WATCHES", 4)

    async def scenario(health: HealthServicer) -> None:
        watches = []
        for name in ("a", "b", "c", "d"):
            monkeypatch.setattr(health_module, "caller", lambda name=name: name)
            watches.append(await watched(health, Connection(name)))
        await check_full(health, PEER, "there are 4 watches of health already")
        await watches[0].aclose()
        watches.append(await watched(health, PEER))

    run(scenario)


def test_a_caller_has_half_of_all_watches_however_many_connections_it_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_module, "MAX_WATCHES", 4)

    async def scenario(health: HealthServicer) -> None:
        monkeypatch.setattr(health_module, "caller", lambda: "ipv4:192.0.2.1")
        watches = [await watched(health, Connection(str(port))) for port in range(2)]
        await check_full(health, Connection("2"), "a caller may have 2 watches")
        monkeypatch.setattr(health_module, "caller", lambda: "ipv4:192.0.2.2")
        others = [await watched(health, Connection(str(port))) for port in range(3, 5)]
        for watch in (*watches, *others):
            await watch.aclose()
        assert not health._by_caller

    run(scenario)


def test_watches_that_have_ended_leave_nothing_behind() -> None:
    async def scenario(health: HealthServicer) -> None:
        for port in range(3):
            await (await watched(health, Connection(str(port)))).aclose()
        assert not health._watches

    run(scenario)


def test_who_watches_too_much_reads_why_and_when_to_try_again(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(request()) for _ in range(WATCHES_A_PEER)]
        assert all(next(watch).status == SERVING for watch in watches)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(request()))
        call: Any = caught.value
        error = error_of(call)
        assert isinstance(error, Exhausted)
        assert error.retry_after > 0
        assert stub.Check(request()).status == SERVING
