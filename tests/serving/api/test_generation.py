"""Constraints, streams, scores, next characters and top strings as callers have them."""

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.api import drawing
from serving.api.constraints import rules_of
from serving.client import Client
from serving.config import ServerConfig
from serving.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from serving.testing import running
from serving.text_files import Line
from trainer.run import Run


def texts(response: pb.GenerateResponse) -> list[str]:
    return [sample.text for sample in response.samples]


@pytest.mark.parametrize("exact", [False, True])
def test_every_constraint_holds_at_once(client: Client, runs: dict[str, Run], exact: bool) -> None:
    known = set(runs["lstm"].dataset().parts["train"])
    response = client.generate(
        "a", 40, seed=4, unique=True, novelty=pb.NOVELTY_NOT_IN_TRAINING, min_length=3,
        max_length=8, pattern="a.*[aeiou].*", forbidden_substrings=["x", "nn"], exclude=["ana"],
        suffix="a", allowed_characters="abcdefghijklmnopqrstuvwy", exact=exact,
        length_policy=pb.LENGTH_POLICY_COMPLETE_ONLY, max_attempts_per_sample=10_000,
    )  # fmt: skip
    found = texts(response)
    assert len(found) == len(set(found)) == 40
    for sample in response.samples:
        assert re.fullmatch("a(?=.*[aeiou])[a-wy]*a", sample.text)
        assert 3 <= len(sample.text) <= 8
        assert "nn" not in sample.text
        assert sample.text not in known
        assert sample.finish_reason == pb.FINISH_REASON_END
        assert (sample.log_weight == 0) == exact
    assert response.usage.samples == 40
    assert response.usage.rejected_length > 0
    assert (response.usage.rejected_pattern > 0) == exact


def test_a_masked_sample_tells_its_weight(client: Client) -> None:
    response = client.generate(n=50, seed=1, pattern="[a-m]*", temperature=0.8)
    for sample in response.samples:
        assert sample.log_weight < 0
    free = client.generate(n=50, seed=1, temperature=0.8)
    assert all(sample.log_weight == 0 for sample in free.samples)


def test_all_there_is_comes_with_the_reason_why_it_is_not_more(client: Client) -> None:
    response = client.generate(n=50, pattern="ab?c?", unique=True)
    assert sorted(texts(response)) == ["a", "ab", "abc", "ac"]
    assert response.shortfall_reason == pb.SHORTFALL_REASON_SPACE_EXHAUSTED


def test_the_settings_of_an_answer_make_it_again(client: Client, address: str) -> None:
    first = client.generate("a", 20, pattern="a[a-z]*", top_p=0.9, unique=True, model="gru")
    with grpc.insecure_channel(address) as channel:
        again = GenerationServiceStub(channel).Generate(
            pb.GenerateRequest(
                prefix="a",
                n=20,
                model=first.model,
                sampling=first.settings.sampling,
                constraints=first.settings.constraints,
            )
        )
    assert again.samples == first.samples
    assert again.settings == first.settings


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a call's time is left for its answer to arrive, however busy the machine is."""
    monkeypatch.setattr(drawing, "MARGIN", 1e9)


@pytest.mark.usefixtures("early")
def test_a_call_may_take_what_there_is_when_its_time_is_up(address: str) -> None:
    asked: dict[str, Any] = {"n": 1000, "pattern": "zz[a-z]{3,}", "exact": True, "seed": 1}
    asked["max_attempts_per_sample"] = 10_000
    with Client(address, timeout=1.5) as client:
        response = client.generate(allow_partial=True, **asked)
    assert response.shortfall_reason == pb.SHORTFALL_REASON_DEADLINE
    assert len(response.samples) < 1000
    with Client(address, timeout=0.5) as client, pytest.raises(DeadlineExceeded):
        client.generate(**asked)


def test_a_stream_is_the_unary_answer_in_parts(client: Client) -> None:
    wanted = client.generate("a", 1000, seed=5, unique=True)
    messages = list(client.stream("a", 1000, seed=5, unique=True))
    assert messages[0].header.model == wanted.model
    assert messages[0].header.model_digest == wanted.model_digest
    assert messages[0].header.seed == 5
    assert messages[0].header.settings == wanted.settings
    assert [s for m in messages for s in m.samples] == list(wanted.samples)
    assert messages[-1].trailer.usage.samples == 1000
    assert not any(m.HasField("header") for m in messages[1:])
    assert not any(m.HasField("trailer") for m in messages[:-1])


@pytest.mark.parametrize("unique", [False, True])
def test_a_stream_that_was_cut_goes_on_elsewhere(client: Client, unique: bool) -> None:
    asked: dict[str, Any] = {"prefix": "", "n": 6000, "seed": 8, "unique": unique}
    asked["model"] = "gru"
    whole = [s for m in client.stream(**asked) for s in m.samples]
    assert [s.index for s in whole] == list(range(6000))
    rest = [s for m in client.stream(start_index=4500, **asked) for s in m.samples]
    assert rest == whole[4500:]


def test_a_stream_of_much_that_is_left_early_frees_its_rows(client: Client) -> None:
    stream = client.stream(n=100_000, seed=1)
    next(stream)
    assert next(stream).samples
    stream.close()
    assert len(client.generate(n=5).samples) == 5


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"n": 100_001}, "request.n"),
        ({"n": 5, "start_index": 5, "seed": 1}, "start_index"),
        ({"n": 5, "start_index": -1, "seed": 1}, "start_index"),
        ({"n": 5, "start_index": 2}, "request.sampling.seed"),
        ({"n": 5, "pattern": "("}, "request.constraints.pattern"),
    ],
)
def test_a_bad_stream_is_refused_by_its_field(
    client: Client, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(client.stream(**asked))
    assert caught.value.field == field


def test_scores_tell_each_string_on_its_own(client: Client) -> None:
    anna, odd, long, cut, empty = client.score(
        ["anna", "an?a€", "a" * 50, "an", ""], characters=True
    )
    assert anna.status == pb.SCORE_STATUS_OK
    assert len(anna.characters) == 5
    assert anna.log_prob == pytest.approx(math.fsum(anna.characters))
    assert anna.bits_per_character == pytest.approx(-anna.log_prob / 5 / math.log(2))
    assert 0 <= anna.percentile <= 100
    assert odd.status == pb.SCORE_STATUS_UNKNOWN_CHARACTER
    assert list(odd.unknown_positions) == [2, 4]
    assert not odd.HasField("log_prob")
    assert long.status == pb.SCORE_STATUS_TOO_LONG
    assert cut.characters[:2] == anna.characters[:2]
    assert len(empty.characters) == 1


def test_a_score_knows_the_training_part(client: Client, runs: dict[str, Run]) -> None:
    dataset = runs["lstm"].dataset()
    inside, outside = dataset.parts["train"][:5], dataset.parts["dev"][:5]
    found = [score.in_training for score in client.score([*inside, *outside])]
    assert found == [True] * 5 + [False] * 5


def test_the_score_of_a_sample_is_its_log_probability(client: Client) -> None:
    for model in ("bow", "cnn", "lstm", "transformer"):
        samples = client.generate(n=100, seed=3, model=model).samples
        ended = [s for s in samples if s.finish_reason == pb.FINISH_REASON_END]
        scores = client.score([s.text for s in ended], model=model)
        assert [s.log_prob for s in scores] == pytest.approx([s.log_prob for s in ended])


def test_next_characters_are_the_conditionals_of_the_score(client: Client) -> None:
    [score] = client.score(["emma"], characters=True)
    found = client.next_characters(["", "e", "em", "emm", "emma"])
    for place, distribution in enumerate(found):
        by_character = {one.character: one.log_prob for one in distribution.characters}
        assert sum(map(math.exp, by_character.values())) == pytest.approx(1)
        assert by_character["emma"[place : place + 1]] == score.characters[place]
        order = [one.log_prob for one in distribution.characters]
        assert order == sorted(order, reverse=True)
    [few] = client.next_characters(["em"], top=3)
    assert list(few.characters) == list(found[2].characters[:3])


def test_top_strings_score_what_they_say_and_come_in_order(client: Client) -> None:
    response = client.list_top_strings("e", 20, model="gru", min_length=2, pattern="e[a-z]*")
    assert response.complete
    scores = client.score([s.text for s in response.strings], model="gru")
    [start] = client.score(["e"], model="gru", characters=True)
    for string, score in zip(response.strings, scores, strict=True):
        assert string.log_prob == pytest.approx(score.log_prob - start.characters[0])
    found = [string.log_prob for string in response.strings]
    assert found == sorted(found, reverse=True)
    assert response.mass_covered == pytest.approx(sum(map(math.exp, found)))
    assert response.next_log_prob_bound <= found[-1]
    sampled = client.generate("e", 1000, model="gru", min_length=2).samples
    for sample in sampled:
        if sample.text not in {s.text for s in response.strings}:
            assert sample.log_prob <= response.next_log_prob_bound + 1e-9


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.next_characters(["a", "?"]), "prefixes[1]"),
        (lambda c: c.next_characters(["a"], top=-1), "top"),
        (lambda c: c.list_top_strings(n=1001), "n"),
        (lambda c: c.list_top_strings(max_expansions=0), "max_expansions"),
        (lambda c: c.list_top_strings("?"), "prefix"),
    ],
)
def test_a_bad_question_is_refused_by_its_field(client: Client, call: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call(client)
    assert caught.value.field == field


def test_asking_about_no_or_too_many_texts_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = GenerationServiceStub(channel)
        calls: list[tuple[Any, Any]] = [
            (stub.Score, pb.ScoreRequest()),
            (stub.Score, pb.ScoreRequest(texts=["a"] * 4097)),
            (stub.NextCharacters, pb.NextCharactersRequest()),
            (stub.NextCharacters, pb.NextCharactersRequest(prefixes=["a"] * 1025)),
        ]
        for call, request in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call(request)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_more_texts_than_a_call_takes_are_several_calls(client: Client) -> None:
    assert len(client.score(["anna"] * 5000)) == 5000


def test_a_model_without_its_training_part_says_what_it_lacks(
    repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bare" / "1"
    folder.mkdir(parents=True)
    source = repository / "bigram" / "1"
    model = (source / "model.onnx").read_bytes().replace(b'"name": "bigram"', b'"name": "bare"  ')
    (folder / "model.onnx").write_bytes(model)
    digest = hashlib.sha256(model).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  model.onnx\n")
    config = ServerConfig(tmp_path, "127.0.0.1:0")
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(FailedPrecondition, match=r"known\.u64"):
            client.generate(novelty=pb.NOVELTY_NOT_IN_TRAINING)
        assert not client.score(["anna"])[0].HasField("in_training")


def test_the_servers_own_list_holds_for_every_call(repository: Path) -> None:
    config = ServerConfig(
        repository, "127.0.0.1:0", "lstm", forbidden=(Line(1, "a"), Line(2, "ell"))
    )
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        for found in (
            texts(client.generate(n=200)),
            texts(client.generate(n=20, exact=True, max_attempts_per_sample=1000)),
            [s.text for m in client.stream(n=200) for s in m.samples],
            [s.text for s in client.list_top_strings(n=50).strings],
        ):
            assert found
            assert not any("a" in text or "ell" in text for text in found)
        with pytest.raises(InvalidArgument, match="this server forbids") as caught:
            client.generate("an")
        assert caught.value.field == "prefix"


def test_a_list_of_ten_thousand_words_holds_beside_a_callers_rules(repository: Path) -> None:
    consonants = "bcdfghjklm"
    words = [
        f"{a}{b}{c}{d}" for a in "aeiouy" for b in consonants for c in "aeiou" for d in consonants
    ]
    words += [
        f"{a}{b}{c}{d}" for a in consonants for b in "aeio" for c in consonants for d in "aeiouy"
    ]
    words += [f"{word}{end}" for word in words[::2] for end in "nr"]
    assert len(words) > 10_000
    lines = tuple(Line(number, word) for number, word in enumerate(words, 1))
    config = ServerConfig(repository, "127.0.0.1:0", "lstm", forbidden=lines)
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        for rules in ({}, {"contains": "an"}, {"pattern": "[^x]{2,6}"}, {"min_length": 6}):
            found = texts(client.generate(n=100, **rules))
            assert len(found) == 100
            assert not any(word in text for word in words for text in found)
        with pytest.raises(InvalidArgument, match="this server's own list") as caught:
            client.generate(suffix=words[0])
        assert caught.value.field == "constraints.suffix"


@pytest.mark.usefixtures("early")
def test_a_search_that_runs_out_of_time_tells_what_it_has(address: str) -> None:
    with Client(address, timeout=4) as client:
        response = client.list_top_strings(n=1000, min_length=9, max_expansions=200_000)
    assert not response.complete
    assert response.expansions > 0
    assert response.next_log_prob_bound < 0


def test_characters_that_are_allowed_are_told_in_an_order_that_stays() -> None:
    rules = rules_of(pb.Constraints(allowed_characters="e\u0301xe"))
    again = rules_of(pb.Constraints(allowed_characters=rules.allowed_characters))
    assert rules == again
    assert set(rules_of(pb.Constraints(allowed_characters="\u0301e")).allowed_characters) == {
        "\u0301",
        "e",
    }
