"""The bigram found by gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from serving.manifest import StateSpec
from trainer.models.base import CharModel, States


@dataclass(frozen=True)
class BigramNeuralConfig:
    """It has no knobs."""


class BigramNeural(CharModel):
    """One linear layer from a one-hot character: Bengio et al. 2003 without the hidden layer.

    A row of weights is a row of logits, and the likelihood is concave in them, so gradient descent
    finds the table of relative frequencies that `bigram` counts.
    """

    Config = BigramNeuralConfig
    training_defaults: ClassVar = {
        "learning_rate": 0.2,
        "weight_decay": 0.0,
        "steps": 1500,
        "warmup": 20,
        "evaluate_every": 250,
        "average": 0.99,
    }

    def __init__(self, config: BigramNeuralConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(vocabulary_size, vocabulary_size))

    @property
    def sees(self) -> int:
        """The last character alone."""
        return 1

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel. A one-hot vector times the weights is a row of them."""
        return self.logits[tokens]  # [B, T, V]

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        return self.logits[token], ()  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """None."""
        return ()
