"""The bigram: the next character given the last one alone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from serving import checks
from serving.manifest import StateSpec
from trainer.models.base import CharModel, States


@dataclass(frozen=True)
class BigramConfig:
    """Knobs of the bigram.

    Attributes:
        alpha: what is added to each pair's count, above 0; the prior weight of a uniform guess.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        checks.real("alpha", self.alpha, 1e-9, 1e6)


class Bigram(CharModel):
    """Exact counts with add-alpha smoothing (Shannon 1948; Lidstone 1920 for the smoothing).

    The smoothed table of relative frequencies is the maximum a posteriori answer, so no gradient is
    taken. It has no state: the last character is all that it looks at.
    """

    Config = BigramConfig
    counted = True

    def __init__(self, config: BigramConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.alpha = config.alpha
        self.log_probabilities = nn.Parameter(
            torch.zeros(vocabulary_size, vocabulary_size), requires_grad=False
        )

    @property
    def sees(self) -> int:
        """The last character alone."""
        return 1

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        return self.log_probabilities[tokens]  # [B, T, V]

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        return self.log_probabilities[token], ()  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """None."""
        return ()

    def fit_counts(self, tokens: Tensor, targets: Tensor) -> None:
        """Count every pair."""
        size = len(self.log_probabilities)
        pairs = tokens * size + targets  # [N]
        counts = torch.bincount(pairs, minlength=size * size).view(size, size).double() + self.alpha
        self.log_probabilities.copy_((counts / counts.sum(dim=1, keepdim=True)).log())
