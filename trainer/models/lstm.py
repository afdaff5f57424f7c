"""The LSTM: long short-term memory."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.base import States
from trainer.models.recurrent import Recurrent


class LSTM(Recurrent):
    """Graves 2013 (arXiv:1308.0850), on the cell of Hochreiter and Schmidhuber 1997.

    The forget gate's bias starts at 1 (Jozefowicz et al. 2015), so that early on little is forgotten.
    """

    training_defaults: ClassVar = {"steps": 8000}
    network = nn.LSTM
    gates = 4
    memories = ("hidden", "cell")

    def _initialise(self) -> None:
        super()._initialise()
        hidden = self.config.hidden
        for name, parameter in self.layers.named_parameters():
            if name.startswith("bias_ih"):
                parameter.data[hidden : 2 * hidden] = 1.0

    def cell(self, inputs: Tensor, memories: States, weight: Tensor, bias: Tensor) -> States:
        """See Recurrent."""
        hidden, cell = memories
        gates = inputs + F.linear(hidden, weight, bias)  # [B, 4H]
        enter, forget, candidate, leave = gates.chunk(4, dim=1)  # [B, H] each
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * cell.tanh(), cell
