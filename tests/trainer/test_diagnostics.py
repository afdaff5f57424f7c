import math

import numpy as np
import pytest

from trainer import diagnostics
from trainer.diagnostics import LayerStatistics, layer_statistics


def test_layer_statistics_are_those_worked_by_hand() -> None:
    values = np.array([[1.0, 0.0], [-1.0, 0.5], [0.98, 0.99]])
    found = layer_statistics(values)
    assert found.mean == pytest.approx((1 - 1 + 0.98 + 0 + 0.5 + 0.99) / 6)
    squares = (1, 1, 0.98**2, 0, 0.25, 0.99**2)
    assert found.deviation == pytest.approx((sum(squares) / 6 - found.mean**2) ** 0.5)
    assert found.saturated == pytest.approx(4 / 6)
    assert found.dead == pytest.approx(1 / 2)


def test_values_without_a_bound_are_never_saturated() -> None:
    found = layer_statistics(np.array([[5.0, 0.99]]))
    assert (found.saturated, found.dead) == (0, 0)


def test_log_ratio_is_in_powers_of_ten() -> None:
    assert diagnostics.log_ratio(0.002, 2.0) == pytest.approx(-3)
    assert diagnostics.log_ratio(0.0, 1.0) == -math.inf
    assert math.isnan(diagnostics.log_ratio(1.0, 0.0))


def test_the_plane_keeps_the_distances_of_what_lies_in_one() -> None:
    corners = np.array([[0, 0, 7], [3, 0, 7], [0, 4, 7.0]])
    plane = diagnostics.principal_plane(corners)
    assert np.linalg.norm(plane[1] - plane[2]) == pytest.approx(5)
    assert np.abs(plane.mean(axis=0)).max() < 1e-12
    assert diagnostics.principal_plane(np.array([[1.0], [3.0]])).shape == (2, 2)


def test_shares_and_their_distance_are_those_worked_by_hand() -> None:
    assert diagnostics.length_shares(["a", "bb", "cc", ""]) == {0: 0.25, 1: 0.25, 2: 0.5}
    assert diagnostics.letter_shares(["ab", "a"]) == {"a": 2 / 3, "b": 1 / 3}
    assert diagnostics.distance({"a": 0.5, "b": 0.5}, {"a": 0.25, "c": 0.75}) == 0.75
    assert diagnostics.distance({1: 1.0}, {1: 1.0}) == 0
    assert diagnostics.length_shares([]) == {0: 0.0}


FINE = LayerStatistics(0, 0.6, 0.05, 0)


def told(**changes: object) -> list[str]:
    about = {
        "first_loss": math.log(27), "vocabulary_size": 27, "layers": {"hidden": FINE},
        "updates": {"head": -3.0}, "train_nll": 1.9, "dev_nll": 2.0,
    }  # fmt: skip
    return diagnostics.flags(**{**about, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"first_loss": 27.0}, "confidently wrong"),
        ({"layers": {"hidden": LayerStatistics(0, 1, 0.9, 0.02)}}, "2% of the units of hidden"),
        ({"layers": {"hidden": LayerStatistics(0, 1, 0.5, 0)}}, "50% of the activations"),
        ({"updates": {"head": -1.0}}, "too fast: lower the rate"),
        ({"updates": {"head": -6.0}}, "too slowly: raise the rate"),
        ({"dev_nll": 2.5}, "by heart"),
    ],
)
def test_each_miscalibration_is_told_in_words(changes: dict[str, object], word: str) -> None:
    (line,) = told(**changes)
    assert word in line


def test_a_healthy_network_has_nothing_told_of_it() -> None:
    assert told() == []
    assert told(first_loss=None) == []
