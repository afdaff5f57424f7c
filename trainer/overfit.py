"""Overfitting on purpose: a few strings, learned by heart, as a test of a model and its training.

The loss cannot go to zero: where a beginning goes on in several ways, some surprise is left. How much is
the entropy of the continuations, counted exactly.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from trainer.data.dataset import Dataset
from trainer.data.split import PARTS
from trainer.errors import DataError

TOLERANCE = 0.02
"""How far above the floor, in nats a character, a loss may stay and still count as there."""

TRAINING_FLAGS = {
    "steps": 1500,
    "evaluate_every": 100,
    "weight_decay": 0.0,
    "average": 0.0,
    "patience": 0,
    "warmup": 50,
    "sample_every": 0,
}


def first_strings(dataset: Dataset, n: int) -> Dataset:
    """A dataset whose train and dev parts are both the first `n` distinct strings of all parts."""
    everything = dict.fromkeys(s for part in PARTS for s in dataset.parts[part])
    if len(everything) < n:
        raise DataError(
            "overfit", f"there are {len(everything):,} distinct strings, fewer than {n:,}"
        )
    chosen = tuple(list(everything)[:n])
    about: dict[str, Any] = {**dataset.about, "overfit": n}
    about["strings"] = {"train": n, "dev": n, "test": 0}
    return replace(dataset, parts={"train": chosen, "dev": chosen, "test": ()}, about=about)


OPEN_MINDED = {"dropout": 0.0, "weight_dropout": 0.0, "alpha": 1e-9}


def model_flags(knobs: Sequence[str]) -> dict[str, Any]:
    """What keeps an architecture from learning by heart, turned off."""
    return {name: value for name, value in OPEN_MINDED.items() if name in knobs}


def floor(strings: Sequence[str], sees: int | None) -> float:
    """The lowest mean loss, in nats a character, of any model that sees the last `sees` characters.

    None sees all of them. The boundary before a string is seen like a character.
    """
    pairs = Counter(_pairs(strings, sees))
    contexts: Counter[str] = Counter()
    for (context, _), count in pairs.items():
        contexts[context] += count
    surprise = sum(n * math.log(contexts[context] / n) for (context, _), n in pairs.items())
    return surprise / sum(pairs.values())


def _pairs(strings: Sequence[str], sees: int | None) -> Iterator[tuple[str, str]]:
    for string in strings:
        whole = f"\n{string}\n"
        for i in range(1, len(whole)):
            yield whole[0 if sees is None else max(0, i - sees) : i], whole[i]


def verdict(nll: float, strings: Sequence[str], sees: int | None) -> tuple[bool, str]:
    """Whether a loss is at the floor, and a line that says so."""
    lowest = floor(strings, sees)
    reached = nll <= lowest + TOLERANCE
    return reached, (
        f"overfit on {len(strings):,} strings: loss {nll:.4f}, floor {lowest:.4f} nats a character: "
        + ("learned by heart" if reached else "not there; train longer, or larger")
    )
