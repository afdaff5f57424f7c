"""A PyTorch model behind the server's session protocol: one sampler and one scorer for both."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from serving.engine.stepping import States
from serving.manifest import Manifest
from trainer.config import RunConfig
from trainer.models.base import CharModel


def bare_manifest(config: RunConfig, model: CharModel, name: str = "run") -> Manifest:
    """A manifest with what stepping needs and nothing else."""
    return Manifest(
        name=name,
        architecture=config.architecture,
        alphabet=config.alphabet,
        max_length=config.max_length,
        states=model.state_specs(),
    )


class TorchSession:
    """Steps a model in evaluation mode; see serving.engine.stepping.StepSession."""

    def __init__(self, model: CharModel, manifest: Manifest) -> None:
        self.model = model.eval()
        self.arithmetic = f"torch {torch.__version__}"
        self.manifest = manifest

    @torch.no_grad()
    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row by one character."""
        device = next(self.model.parameters()).device
        token_, *states_ = (torch.from_numpy(array).to(device) for array in (token, *states))
        logits, after = self.model.step(token_, tuple(states_))
        return _array(logits), tuple(_array(state) for state in after)

    def advance(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row."""
        return self.step(token, states)


def _array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    return array
