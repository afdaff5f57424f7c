"""What one call, and one caller, may make a server do; over gRPC."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.api import loop_time, memory, reading, service, sizes
from serving.client import Client
from serving.config import PROCESS, THREAD, ServerConfig
from serving.engine import ledger
from serving.errors import Exhausted, InvalidArgument
from serving.options import MAX_ANSWER
from serving.server import Server
from serving.testing import running

TEXTS = ["emma", "", "?", "x" * 100, *(f"{a}{b}" for a in "abcdefgh" for b in "aeiou"), "anna"]


@pytest.fixture(params=[THREAD, PROCESS])
def server(repository: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    config = ServerConfig(repository, "127.0.0.1:0", "lstm", engines=request.param)
    with running(config) as server:
        yield server


def test_answers_are_the_same_in_however_many_parts_they_are_made(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = [text for text in TEXTS if "?" not in text and len(text) < 10]

    def answers(client: Client) -> tuple[list[pb.TextScore], list[list[pb.NextDistribution]]]:
        told = [client.next_characters(prefixes, top=top) for top in (0, 3)]
        return client.score(TEXTS, characters=True), told

    with Client(f"127.0.0.1:{server.port}") as client:
        wanted = answers(client)
        strings = client.generate("a", 100, seed=1).samples
        top = client.list_top_strings("a", 100).strings
        monkeypatch.setattr(reading, "PART", 600)
        monkeypatch.setattr(reading, "FIELDS", 60)
        monkeypatch.setattr(reading, "SCORES", 3)
        monkeypatch.setattr(loop_time, "SMALL", -1)
        found = answers(client)
        assert client.generate("a", 100, seed=1).samples == strings
        assert client.list_top_strings("a", 100).strings == top
    for one, other in zip(found[0], wanted[0], strict=True):
        assert one.status == other.status
        assert one.characters == pytest.approx(other.characters, abs=1e-5)
    assert [score.status for score in found[0][:4]] == [
        pb.SCORE_STATUS_OK,
        pb.SCORE_STATUS_OK,
        pb.SCORE_STATUS_UNKNOWN_CHARACTER,
        pb.SCORE_STATUS_TOO_LONG,
    ]
    for some, others in zip(found[1], wanted[1], strict=True):
        for told, same in zip(some, others, strict=True):
            assert dict(named(told)) == pytest.approx(dict(named(same)), abs=1e-5)


def named(distribution: pb.NextDistribution) -> Iterator[tuple[str, float]]:
    return ((each.character, each.log_prob) for each in distribution.characters)


def test_an_answer_that_may_be_too_large_is_refused_before_any_work_is_done(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.host.find("lstm")[1]
    monkeypatch.setattr(sizes, "MAX_ANSWER", sizes.REST + 100 * 27 * 14)
    with Client(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(InvalidArgument, match="set a lower top") as refused:
            client.next_characters(["a"] * 1000)
        assert refused.value.field == "prefixes"
        assert engine.figures().counts[ledger.JOBS_ACCEPTED, "read"] == 0
        assert len(client.next_characters(["a"] * 1000, top=1)) == 1000


def test_a_caller_whose_answers_take_all_the_memory_of_its_share_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ANSWERS", 1)
    config = ServerConfig(repository, "127.0.0.1:0", "lstm")
    with running(config) as server:
        address = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(address) as channel, Client(address) as client:
            request = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000))
            stream = GenerationServiceStub(channel).StreamGenerate(request)
            next(stream)
            with pytest.raises(Exhausted, match="the answers under way take all memory"):
                next(client.stream(n=100_000))
            assert client.generate(n=10).samples, "what is small is not counted"
            stream.cancel()


def test_there_is_memory_for_the_largest_answers_of_several_callers() -> None:
    assert memory.ANSWERS // 2 >= 4 * MAX_ANSWER
