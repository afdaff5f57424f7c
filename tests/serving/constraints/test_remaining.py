from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.constraints.remaining import Remaining
from serving.engine.sampling import Float64

LENGTH, TOKENS = 3, 3
"""Strings of the tokens 1 and 2, at most so long; 0 ends them, and those of full length may be cut."""
PATHS = [path for length in range(LENGTH + 1) for path in product((1, 2), repeat=length)]
ENDINGS = [
    (path, is_cut) for path in PATHS for is_cut in (False, True)[: 1 + (len(path) == LENGTH)]
]

Ending = tuple[tuple[int, ...], bool]


def weights_after(path: tuple[int, ...]) -> Float64:
    return np.random.default_rng(path).uniform(0.1, 1, TOKENS)


def probability(ending: Ending) -> float:
    """That a string is drawn and ends, or is cut."""
    path, is_cut = ending
    shares = [
        weights_after(path[:at]) / weights_after(path[:at]).sum() for at in range(len(path) + 1)
    ]
    last = shares[-1][1:].sum() if is_cut else shares[-1][0]
    return float(np.prod([share[token] for share, token in zip(shares, path, strict=False)]) * last)


def walk(remaining: Remaining, path: tuple[int, ...]) -> None:
    """Visit every prefix of a path, as a row does on its way."""
    for at in range(len(path) + 1):
        remaining.visit(path[:at], weights_after(path[:at]))


def mass(remaining: Remaining) -> float:
    assert remaining.root is not None
    return float((remaining.root.share * remaining.root.left).sum())


@given(st.permutations(ENDINGS), st.integers(0, len(ENDINGS)))
def test_what_remains_is_the_mass_of_what_was_not_taken(order: list[Ending], taken: int) -> None:
    remaining = Remaining()
    walk(remaining, ())
    for path, is_cut in order[:taken]:
        walk(remaining, path)
        remaining.take(path, ended=not is_cut, cut=is_cut)
    assert mass(remaining) == pytest.approx(sum(map(probability, order[taken:])), abs=1e-12)
    assert (mass(remaining) == 0) == (taken == len(order))


@given(st.permutations(PATHS))
def test_a_taken_branch_is_as_all_its_strings_taken_and_what_is_gone_is_forgotten(
    order: list[tuple[int, ...]],
) -> None:
    remaining = Remaining()
    for path in order:
        walk(remaining, path)
    assert remaining.size == len(PATHS)
    remaining.take_branch((1, 2))
    gone = [path for path in PATHS if path[:2] == (1, 2)]
    rest = [ending for ending in ENDINGS if ending[0] not in gone]
    assert mass(remaining) == pytest.approx(sum(map(probability, rest)), abs=1e-12)
    for path in PATHS:
        remaining.take(path, ended=True, cut=len(path) == LENGTH)
    assert mass(remaining) == 0
    assert remaining.size == 1
