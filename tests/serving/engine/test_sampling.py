import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.sampling import (
    Float64,
    SamplingParameters,
    Settings,
    draw,
    inverse_cdf,
    keep_top_k,
    weights_of,
)
from serving.errors import InvalidArgument

finite = st.floats(-30, 30, width=32)


def settings(
    temperature: object, top_k: object = 0, top_p: object = 1.0, min_p: object = 0.0
) -> Settings:
    return Settings(*(np.atleast_1d(np.asarray(v)) for v in (temperature, top_k, top_p, min_p)))


def plain_draw(logits: list[float], temperature: float, top_k: int, uniform: float) -> int:
    """One row, drawn as one would by hand."""
    ids = range(len(logits))
    if temperature == 0:
        return max(ids, key=lambda i: (logits[i], -i))
    best = max(logits)
    kept = sorted(ids, key=lambda i: (-logits[i], i))[: top_k or None]
    weights = [math.exp((logits[i] - best) / temperature) if i in kept else 0.0 for i in ids]
    target, total = uniform * sum(weights), 0.0
    for i in ids:
        total += weights[i]
        if total > target:
            return i
    return max(i for i in ids if weights[i] > 0)


@given(
    rows=st.lists(
        st.tuples(
            st.lists(finite, min_size=5, max_size=5),
            st.sampled_from([0.0, 0.25, 1.0, 3.0]),
            st.integers(0, 7),
            st.floats(0, 1, exclude_max=True),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_draw_is_the_plain_draw_row_by_row(
    rows: list[tuple[list[float], float, int, float]],
) -> None:
    logits, temperature, top_k, uniform = (np.array(column) for column in zip(*rows, strict=True))
    drawn = draw(logits.astype(np.float32), settings(temperature, top_k), uniform)
    ids, log_probs = drawn.ids, drawn.log_prob
    for i, row in enumerate(rows):
        assert ids[i] == plain_draw(*row) or _is_edge(row)
        expected = row[0][ids[i]] - math.log(sum(map(math.exp, row[0])))
        assert log_probs[i] == pytest.approx(expected, abs=1e-6)


def _is_edge(row: tuple[list[float], float, int, float]) -> bool:
    """Whether the uniform stands within rounding of a border, where either side is right."""
    logits, temperature, top_k, uniform = row
    return any(
        plain_draw(logits, temperature, top_k, min(max(uniform + shift, 0), 1 - 1e-16))
        != plain_draw(logits, temperature, top_k, uniform)
        for shift in (-1e-12, 1e-12)
    )


@given(st.lists(finite, min_size=2, max_size=9), st.integers(1, 12))
def test_top_k_keeps_exactly_k_ties_by_id(logits: list[float], k: int) -> None:
    kept = np.flatnonzero(np.isfinite(keep_top_k(np.array([logits]), np.array([k]))[0]))
    expected = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:k]
    assert kept.tolist() == sorted(expected)


def test_top_k_of_zero_or_of_all_keeps_the_row_as_it_is() -> None:
    logits = np.array([[1.0, 2.0, 3.0]] * 3)
    assert (keep_top_k(logits, np.array([0, 3, 99])) == logits).all()


def test_temperature_zero_takes_the_first_of_the_most_likely() -> None:
    logits = np.array([[1, 5, 5, 0]], np.float32)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        ids = draw(logits, settings(0), np.array([uniform])).ids
        assert ids[0] == 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-3, 100.0])
def test_no_temperature_overflows(temperature: float) -> None:
    logits = np.array([[3, -20, 7, 6.5]], np.float32)
    drawn = draw(logits, settings(temperature), np.array([0.5]))
    ids, log_probs = drawn.ids, drawn.log_prob
    assert np.isfinite(log_probs).all()
    assert ids[0] == 2 or temperature > 1


def test_the_smallest_and_largest_uniform_draw_possible_ids() -> None:
    weights: Float64 = np.array([[0.0, 1.0, 1.0, 0.0]] * 2)
    assert inverse_cdf(weights, np.array([0.0, 1 - 2**-53])).tolist() == [1, 2]


def test_draws_follow_the_distribution() -> None:
    n, probabilities = 100_000, np.array([0.5, 0.3, 0.15, 0.05])
    logits = np.repeat(np.log(probabilities)[None], n, axis=0).astype(np.float32)
    uniform = (np.arange(n) + 0.5) / n
    ids = draw(logits, Settings.of(SamplingParameters(), len(logits)), uniform).ids
    assert np.abs(np.bincount(ids) / n - probabilities).max() < 1e-4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", -0.1),
        ("temperature", 100.1),
        ("top_k", -1),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{field}: must be"):
        SamplingParameters(**{field: value})  # type: ignore[arg-type]


def processed(logits: Float64, parameters: SamplingParameters) -> Float64:
    """The distribution that the logits processors of the package transformers come to: [V]."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    scores = torch.tensor(logits[None])
    processors = [transformers.TemperatureLogitsWarper(parameters.temperature)]
    if parameters.top_k:
        processors.append(transformers.TopKLogitsWarper(parameters.top_k))
    processors.append(transformers.TopPLogitsWarper(parameters.top_p))
    if parameters.min_p:
        processors.append(transformers.MinPLogitsWarper(parameters.min_p))
    for processor in processors:
        scores = processor(None, scores)
    found: Float64 = scores.softmax(dim=-1)[0].numpy()
    return found


def test_the_distribution_is_that_of_an_independent_implementation() -> None:
    chance = np.random.default_rng(5)
    for _ in range(2000):
        logits = chance.normal(0, 3, chance.integers(2, 30))
        mask = chance.random(len(logits)) < 0.8
        mask[chance.integers(len(logits))] = True
        logits = np.where(mask, logits, -np.inf)
        parameters = SamplingParameters(
            temperature=chance.choice([0.3, 0.7, 1.0, 2.5]),
            top_k=int(chance.choice([0, 1, 2, 5, 100])),
            top_p=chance.choice([0.05, 0.5, 0.9, 1.0]),
            min_p=chance.choice([0.0, 0.05, 0.5, 1.0]),
        )
        weights = weights_of(logits[None], Settings.of(parameters, 1))[0]
        found = weights / weights.sum()
        assert found == pytest.approx(processed(logits, parameters), abs=1e-12), parameters


@given(st.lists(finite, min_size=1, max_size=9))
def test_k_of_all_p_of_one_and_min_p_of_zero_change_no_bit(logits: list[float]) -> None:
    raw = np.array([logits], np.float32)
    uniform = np.array([0.37])
    plain = draw(raw, Settings.of(SamplingParameters(), 1), uniform)
    for k in (0, len(logits), len(logits) + 5):
        same = draw(raw, settings(1.0, k, 1.0, 0.0), uniform)
        assert [c.tobytes() for c in same] == [c.tobytes() for c in plain]
    free = draw(raw, settings(1.0), uniform, mask=np.ones((1, len(logits)), np.bool_))
    assert [c.tobytes() for c in free] == [c.tobytes() for c in plain]


def test_a_plain_row_is_the_same_to_the_last_bit_beside_rows_that_are_not() -> None:
    chance = np.random.default_rng(6)
    logits = chance.normal(0, 4, (300, 27)).astype(np.float32)
    uniform = chance.random(300)
    plain = draw(logits, Settings.of(SamplingParameters(), len(logits)), uniform)
    temperature = np.where(np.arange(300) % 2, 0.7, 1.0)
    mask = chance.random((300, 27)) < 0.7
    mask[::2] = True
    mask[:, 0] = True
    mixed = draw(logits, settings(temperature), uniform, mask)
    for one, other in zip(plain, mixed, strict=True):
        assert one[::2].tobytes() == other[::2].tobytes()


def test_masked_ids_are_never_drawn_and_the_weight_makes_up_for_the_mask() -> None:
    chance = np.random.default_rng(7)
    logits = np.repeat(chance.normal(0, 2, (1, 6)), 5000, axis=0).astype(np.float32)
    mask = np.repeat(np.array([[True, False, True, True, False, True]]), 5000, axis=0)
    uniform = (np.arange(5000) + 0.5) / 5000
    drawn = draw(logits, settings(1.0), uniform, mask)
    assert set(drawn.ids.tolist()) <= {0, 2, 3, 5}
    exact = np.exp(logits[0] - np.log(np.exp(logits[0]).sum()))
    kept = exact[[0, 2, 3, 5]].sum()
    assert drawn.log_weight == pytest.approx(np.full(5000, np.log(kept)), abs=1e-6)
    assert drawn.log_prob == pytest.approx(drawn.sampling_log_prob + drawn.log_weight, abs=1e-6)


def test_a_weight_is_nothing_where_the_settings_without_the_mask_never_draw_it() -> None:
    logits = np.array([[3.0, 2.0, 1.0]], np.float32)
    drawn = draw(logits, settings(1.0, 1), np.array([0.5]), np.array([[False, True, True]]))
    assert drawn.ids.tolist() == [1]
    assert drawn.log_weight.tolist() == [-math.inf]


def test_where_nothing_remains_there_is_no_id() -> None:
    logits = np.zeros((2, 3), np.float32)
    remaining = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    drawn = draw(logits, settings(1.0), np.array([0.1, 0.1]), None, remaining)
    assert drawn.ids.tolist() == [-1, 2]
