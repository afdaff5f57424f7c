from pathlib import Path

import numpy as np
import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.engine import compiled, lane, walking
from serving.engine.engine import Engine
from serving.engine.job import Draw, Read, Sample
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters, log_partition
from serving.engine.session import OrtSession
from serving.engine.stateless import Stateless, is_stateless
from serving.manifest import Manifest
from serving.testing import FakeSession

STATELESS = ["bigram", "bigram-neural"]


@pytest.fixture(params=STATELESS)
def session(request: pytest.FixtureRequest, repository: Path) -> OrtSession:
    return OrtSession((repository / request.param / "1" / "model.onnx").read_bytes())


@pytest.fixture(params=["compiled", "plain", "short walks"])
def engine(
    request: pytest.FixtureRequest, session: OrtSession, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """Started, after which the model can take no step any more."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "library", lambda: None)
    if request.param == "short walks":
        for module in (walking, lane):
            monkeypatch.setattr(module, "ENOUGH", 5)
    engine = Engine(session, 5)
    engine.start()
    monkeypatch.setattr(session, "step", None)
    monkeypatch.setattr(session, "advance", None)
    return engine


def test_strings_are_those_of_steps_and_take_none(session: OrtSession, engine: Engine) -> None:
    longest, plain = session.manifest.max_length, OrtSession.step
    drawn: list[Sample] = []
    for prefix in ("", "em"):
        ids = session.manifest.vocabulary.encode(prefix)
        for n, temperature in ((1, 1.0), (600, 1.0), (30, 0.5)):
            parameters = SamplingParameters(seed=n, temperature=temperature)
            job = Draw(ids, n, parameters, longest)
            engine.submit(job)
            found = job.result.result(30).samples
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(session, "step", lambda *a: plain(session, *a))
                assert found == generate(session, ids, n, parameters, longest)
    many = Draw([], 20, SamplingParameters(), longest, seeds=range(20))
    for job in (many, *(Draw([], 1, SamplingParameters(seed=s), longest) for s in range(20))):
        engine.submit(job)
        drawn += job.result.result(30).samples
    assert [s.text for s in drawn[:20]] == [s.text for s in drawn[20:]]
    engine.stop()
    assert isinstance(engine.contexts, Stateless)
    assert engine.clock.rows == 0


def test_patterns_are_kept_to(session: OrtSession, engine: Engine) -> None:
    vocabulary, longest = session.manifest.vocabulary, session.manifest.max_length
    bounds = Bounds(Rules(suffix="na").compile(vocabulary.alphabet), 0, longest)
    job = Draw([], 50, SamplingParameters(seed=1), longest, bounds)
    engine.submit(job)
    assert all(sample.text.endswith("na") for sample in job.result.result(30).samples)
    engine.stop()


def test_what_is_read_is_scored(session: OrtSession, engine: Engine) -> None:
    ids = session.manifest.vocabulary.encode("emma")
    job = Read([ids, []])
    engine.submit(job)
    emma, nothing = job.result.result(30)
    engine.stop()
    logits, _ = OrtSession.step(session, np.array([0, *ids]), ())
    raw = logits.astype(np.float64)
    log_probs = raw - log_partition(raw)[:, None]
    np.testing.assert_array_equal(emma.log_probs, log_probs[np.arange(5), [*ids, 0]])
    np.testing.assert_array_equal(nothing.log_probs, log_probs[0, :1])


def test_a_model_with_a_state_or_of_too_many_characters_is_like_any_other() -> None:
    assert not is_stateless(FakeSession().manifest)
    alphabet = tuple(map(chr, range(0x4E00, 0x4E00 + 800)))
    for many, expected in ((700, True), (800, False)):
        manifest = Manifest("characters", "bigram", alphabet[:many], 8, ())
        assert is_stateless(manifest) == expected
