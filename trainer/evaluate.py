"""How well a model predicts strings: exact over a whole part, beside what simple guesses reach."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from serving.engine.sampling import Float64
from trainer.data.batches import IGNORED, Part
from trainer.models.base import CharModel
from trainer.models.bigram import Bigram, BigramConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood in nats per predicted character, boundary included."""

    nll: float
    characters: int
    strings: int

    def to_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        return asdict(self)


@torch.no_grad()
def evaluate(model: CharModel, part: Part) -> Score:
    """Score every string of a part, once, with dropout off; sums are in float64."""
    training = model.training
    model.eval()
    total = 0.0
    for tokens, targets in part.in_order():
        logits = model(tokens).flatten(0, 1)  # [B*T, V]
        losses = F.cross_entropy(
            logits.double(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        total += losses.item()
    model.train(training)
    return Score(total / max(part.characters, 1), part.characters, len(part))


@torch.no_grad()
def string_nlls(model: CharModel, part: Part) -> Float64:
    """The NLL of every string, in nats: [N], the short ones first; the model is to be in evaluation mode."""
    found = []
    for tokens, targets in part.in_order():
        logits = model(tokens)  # [B, T, V]
        losses = F.cross_entropy(
            logits.double().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )  # [B, T]
        found.append(losses.sum(dim=1).numpy())
    nlls: Float64 = np.concatenate(found)
    return nlls


@torch.no_grad()
def baselines(train: Part, parts: dict[str, Part], size: int) -> dict[str, dict[str, Score]]:
    """Scores of guessing evenly, by the train part's letters, and by its pairs of letters.

    Counts get 1 added, so that nothing is impossible. `size` is V.
    """
    counts = torch.bincount(train.pairs[1], minlength=size).double() + 1
    surprise = -(counts / counts.sum()).log()  # [V]
    bigram = Bigram(BigramConfig(), size, 0)
    bigram.fit_counts(*train.pairs)

    def table_score(table: torch.Tensor, part: Part) -> Score:
        total = table[part.pairs[1]].sum().item()
        return Score(total / max(part.characters, 1), part.characters, len(part))

    return {
        "uniform": {
            name: Score(math.log(size), part.characters, len(part)) for name, part in parts.items()
        },
        "unigram": {name: table_score(surprise, part) for name, part in parts.items()},
        "bigram": {name: evaluate(bigram, part) for name, part in parts.items()},
    }


def labelled(architecture: str, own: T, guesses: Mapping[str, T]) -> list[tuple[str, T]]:
    """Rows of a table of scores: the model's own, then the baselines, labelled as such.

    A baseline can have the name of the model's architecture: a bigram is compared with a bigram.
    """
    baseline_rows = [(f"baseline: {name}", scores) for name, scores in guesses.items()]
    return [(architecture, own), *baseline_rows]
