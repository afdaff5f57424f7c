"""The RNN: a hidden layer that is fed back to itself."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.base import States
from trainer.models.recurrent import Recurrent, RecurrentConfig


@dataclass(frozen=True)
class RNNConfig(RecurrentConfig):
    """Knobs of the RNN: those of RecurrentConfig."""

    hidden: int = 320
    dropout: float = 0.3
    weight_dropout: float = 0.0


class RNN(Recurrent):
    """Mikolov et al. 2010, "Recurrent neural network based language model" (Interspeech)."""

    Config = RNNConfig
    training_defaults: ClassVar = {"optimizer": "muon", "learning_rate": 0.004, "steps": 4000}
    network = nn.RNN
    gates = 1

    def cell(self, inputs: Tensor, memories: States, weight: Tensor, bias: Tensor) -> States:
        """See Recurrent."""
        (hidden,) = memories
        return ((inputs + F.linear(hidden, weight, bias)).tanh(),)  # [B, H]
