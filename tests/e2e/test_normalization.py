"""Answers are in NFC, the form in which training strings, exclusions and scores are compared."""

import unicodedata
from collections.abc import Iterable, Iterator

import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.api import ahead
from serving.client import Client
from serving.config import ServerConfig
from serving.engine.sampling import SamplingParameters
from serving.testing import running
from tests.conftest import QUICK
from trainer import preview
from trainer.data.dataset import DataConfig
from trainer.export.export import export
from trainer.run import Run
from trainer.train import new_run, train

SCRIPTS = {
    # A vowel sign of two parts is one character, and its parts are vowel signs themselves.
    "tamil": [a + b for a in ["கொ", "கெ", "கா", "மொ", "செ", "பா"] for b in ["டி", "ன்", "லைகள்"]],
    # Old Korean is spelled with jamo, a syllable of today's is one character.
    "hangul": [
        a + b
        for a in ["\u1112\u119e\u11ab", "\u1140\u1161", "가", "\u1100\u119e"]
        for b in ["나", "다", "각", "가나다"]
    ],
    # Marks on a letter that has no composed form with them, beside letters that have one.
    "latin": [
        a + b for a in ["q\u0301", "q\u0323", "q\u0323\u0301", "é", "ạ"] for b in ["a", "e", "éq"]
    ],
}


@pytest.fixture(scope="module", params=SCRIPTS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    lines = [unicodedata.normalize("NFC", line) for line in SCRIPTS[request.param]]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    data = DataConfig(folder / "lines.txt")
    run, dataset = new_run(folder / "run", "bigram", data, {}, {**QUICK, "threads": 1})
    assert train(run, dataset, resume=False, is_terminal=False)
    export(run, request.param, folder / "models")
    return run


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[Client]:
    with (
        running(ServerConfig(run.path.parent / "models", "127.0.0.1:0")) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        yield client


def all_in_nfc(texts: list[str]) -> bool:
    return all(unicodedata.is_normalized("NFC", text) for text in texts)


def texts_of(samples: Iterable[pb.Sample]) -> list[str]:
    return [sample.text for sample in samples]


def streamed(client: Client, start: int = 0) -> list[pb.Sample]:
    messages = client.stream(n=300, seed=3, temperature=100, start_index=start)
    return [sample for message in messages for sample in message.samples]


def test_every_method_returns_strings_in_nfc(client: Client) -> None:
    response = client.generate(n=300, seed=3, temperature=100)
    assert response.usage.rejected_pattern > 0  # else nothing is shown here
    assert all_in_nfc(texts_of(response.samples))
    assert streamed(client) == list(response.samples)
    assert streamed(client, 100) == list(response.samples)[100:]
    for sample in response.samples:
        assert unicodedata.normalize("NFC", sample.text) == sample.text
    assert all_in_nfc([found.text for found in client.list_top_strings(n=1000).strings])


def test_the_score_of_a_string_is_what_it_was_drawn_with(client: Client) -> None:
    whole = [
        sample
        for sample in client.generate(n=300, seed=4, temperature=100).samples
        if sample.finish_reason == pb.FINISH_REASON_END
    ]
    assert whole
    for sample, score in zip(whole, client.score(texts_of(whole)), strict=True):
        assert score.log_prob == pytest.approx(sample.log_prob, abs=1e-5)


def test_unique_new_and_excluded_strings_are_what_they_are_in_nfc(client: Client, run: Run) -> None:
    known = set(run.dataset().parts["train"])
    excluded = texts_of(client.generate(n=20, seed=5, temperature=100).samples)
    response = client.generate(
        n=300, seed=5, temperature=100, unique=True, exclude=excluded,
        novelty=pb.NOVELTY_NOT_IN_TRAINING,
    )  # fmt: skip
    found = texts_of(response.samples)
    assert len({unicodedata.normalize("NFC", text) for text in found}) == len(found) == 300
    assert not {unicodedata.normalize("NFC", text) for text in found} & {*known, *excluded}
    assert not any(score.in_training for score in client.score(found))


def test_a_pattern_that_matches_two_spellings_gives_one(client: Client, run: Run) -> None:
    """A training string with one character as it is or in its parts, as classes, which stay as they are."""
    line, place, parts = next(
        (line, place, unicodedata.normalize("NFD", character))
        for line in run.dataset().parts["train"]
        for place, character in enumerate(line)
        if len(parts := unicodedata.normalize("NFD", character)) > 1
        and set(parts) <= set(client.get_model().alphabet)
    )
    spelled = "".join(f"[{part}]" for part in parts)
    pattern = f"{line[:place]}(?:{line[place]}|{spelled}){line[place + 1 :]}"
    for exact in (False, True):
        response = client.generate(
            "", 5, pattern=pattern, unique=True, exact=exact, max_attempts_per_sample=10_000
        )
        assert texts_of(response.samples) == [line]
        assert response.shortfall_reason == pb.SHORTFALL_REASON_SPACE_EXHAUSTED


def test_samples_of_a_run_are_in_nfc(run: Run) -> None:
    parameters = SamplingParameters(temperature=100, seed=1)
    texts = preview.draw(run.load_model(), run.config, 200, parameters)
    assert len(texts) == 200
    assert all_in_nfc(texts)


def test_strings_that_are_drawn_ahead_are_in_nfc(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One caller asks again and again, so that most answers were drawn before."""
    monkeypatch.setattr(ahead, "SPAN", 60.0)  # however slow the machine is
    monkeypatch.setattr(ahead, "WHILE", 60.0)
    found = [client.generate(temperature=100) for _ in range(400)]
    assert any(not response.usage.queue_time.nanos for response in found)
    assert all_in_nfc([response.samples[0].text for response in found])
    for response in found[-20:]:
        again = client.generate(temperature=100, seed=response.seed)
        assert again.samples[0].text == response.samples[0].text
