"""What a server tells of itself is what it has done."""

import asyncio

import pytest

from serving.client import Client
from serving.errors import ServingError
from serving.observe.definitions import ALL, PREFIX
from serving.observe.metrics import Metrics
from tests.conftest import COMMITTED, host_of
from tests.serving.observe.asking import Scrape, observed
from tests.serving.process import wait_until

GENERATE = "makemore.v1.GenerationService/Generate"


def settled(address: str) -> Scrape:
    """A look once no job is under way."""
    wait_until(lambda: not Scrape(address).total("makemore_queue_jobs"))
    return Scrape(address)


def test_every_metric_is_there_before_anything_has_happened_and_no_other() -> None:
    with observed() as (_, address):
        names = set(Scrape(address).families)
        ours = {name for name in names if name.startswith(PREFIX)}
        assert ours - {name for name in ours if name.endswith("_created")} == {
            (PREFIX + name).removesuffix("_total") for name in ALL
        }
        assert {"process_resident_memory_bytes", "python_gc_collections"} <= names


def test_calls_and_what_they_made_are_counted() -> None:
    with observed() as (server, address), Client(f"127.0.0.1:{server.port}") as client:
        before = Scrape(address)
        response = client.generate("em", 10, seed=1, unique=True)
        with pytest.raises(ServingError):
            client.generate("em", -1)
        client.score(["emma"])
        after = settled(address)

        def grown(name: str, **labels: str) -> float:
            try:
                return after.total(name, **labels) - before.total(name, **labels)
            except AssertionError:
                return after.total(name, **labels)

        assert grown("makemore_calls_total", method=GENERATE, code="OK") == 1
        assert grown("makemore_calls_total", method=GENERATE, code="INVALID_ARGUMENT") == 1
        assert grown("makemore_call_seconds_count", method=GENERATE) == 2
        assert after.total("makemore_calls_in_flight", method=GENERATE) == 0
        assert grown("makemore_jobs_total", kind="draw", outcome="finished") == 1
        assert grown("makemore_jobs_total", kind="read", outcome="finished") == 1
        assert grown("makemore_samples_accepted_total") == grown("makemore_samples_total") == 10
        assert grown("makemore_characters_total", kind="draw") == response.usage.characters
        assert grown("makemore_characters_total", kind="read") == len("emma") + 1
        assert grown("makemore_step_seconds_count") > 0
        assert grown("makemore_step_rows_total") >= grown("makemore_step_seconds_count")
        (model,) = server.host.models()
        assert after.total("makemore_model_info", model="names", digest=model.digest) == 1


def test_a_second_asking_for_the_same_prefix_hits_the_cache() -> None:
    with observed() as (server, address), Client(f"127.0.0.1:{server.port}") as client:
        client.generate("emma", 1, seed=1)
        before = settled(address)
        client.generate("emma", 1, seed=1)
        after = settled(address)
        for what, more in (("hits", True), ("misses", False)):
            name = f"makemore_prefix_cache_{what}_total"
            assert (after.total(name) > before.total(name)) == more
        assert after.total("makemore_prefix_cache_bytes") > 0


def test_a_server_that_is_loading_tells_what_needs_no_model() -> None:
    metrics = Metrics(host_of(COMMITTED))
    names = {family.name for family in metrics.registry.collect()}
    assert {"makemore_ready", "makemore_model_info", "makemore_jobs"} <= names


def test_two_servers_in_a_process_count_apart() -> None:
    with observed() as (first, one), observed() as (_, other):
        with Client(f"127.0.0.1:{first.port}") as client:
            client.generate("em", 1)
        assert settled(one).total("makemore_jobs_total") == 1
        assert Scrape(other).total("makemore_jobs_total") == 0


def test_the_pressure_is_that_of_the_engine_under_the_highest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with observed() as (server, address):
        (engine,) = server.host.running()
        monkeypatch.setattr(engine.admission.queues[1], "jobs", engine.admission.queues[1].most)
        assert Scrape(address).total("makemore_queue_pressure") == 1.0


def test_reloads_are_counted_by_their_result() -> None:
    with observed() as (server, address):
        server.host.reloads["refused"] += 2
        assert Scrape(address).total("makemore_reloads_total", result="refused") == 2
        assert Scrape(address).total("makemore_reloads_total", result="accepted") == 0


def test_counting_a_call_is_balanced_when_it_is_cancelled() -> None:
    metrics = Metrics(host_of(COMMITTED)).of("a/B")

    async def call() -> None:
        begun = metrics.begin()
        try:
            await asyncio.sleep(0)
        finally:
            metrics.end(begun, "CANCELLED")

    for _ in range(3):
        asyncio.run(call())
    assert metrics.in_flight == 0
