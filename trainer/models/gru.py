"""The GRU: gated recurrent units."""

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.base import States
from trainer.models.recurrent import Recurrent


class GRU(Recurrent):
    """Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder" (arXiv:1406.1078).

    The reset gate acts on the product with the recurrent weights, bias and all, as in PyTorch and cuDNN
    (`linear_before_reset` in ONNX).
    """

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
