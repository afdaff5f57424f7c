"""The RNN: a hidden layer that is fed back to itself."""

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.base import States
from trainer.models.recurrent import Recurrent


class RNN(Recurrent):
    """Mikolov et al. 2010, "Recurrent neural network based language model" (Interspeech)."""

    network = nn.RNN
    gates = 1

    def cell(self, inputs: Tensor, memories: States, weight: Tensor, bias: Tensor) -> States:
        """See Recurrent."""
        (hidden,) = memories
        return ((inputs + F.linear(hidden, weight, bias)).tanh(),)  # [B, H]
