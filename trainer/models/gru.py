"""The GRU: gated recurrent units."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.base import States
from trainer.models.recurrent import Recurrent, RecurrentConfig


@dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    """Knobs of the GRU: those of RecurrentConfig. Dropped recurrent weights were seen to harm it."""

    weight_dropout: float = 0.0


class GRU(Recurrent):
    """Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078).

    The reset gate acts on the product with the recurrent weights, bias and all, as in PyTorch and cuDNN
    (`linear_before_reset` in ONNX).
    """

    Config = GRUConfig
    training_defaults: ClassVar = {"steps": 5000}
    network = nn.GRU
    gates = 3

    def cell(self, inputs: Tensor, memories: States, weight: Tensor, bias: Tensor) -> States:
        """See Recurrent."""
        (hidden,) = memories
        reset, update, candidate = inputs.chunk(3, dim=1)  # [B, H] each
        from_reset, from_update, from_candidate = F.linear(hidden, weight, bias).chunk(3, dim=1)
        update = (update + from_update).sigmoid()
        candidate = (candidate + (reset + from_reset).sigmoid() * from_candidate).tanh()
        return (candidate + update * (hidden - candidate),)  # [B, H]
