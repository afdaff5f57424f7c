"""Setting torch up for a training."""

import os

import torch

from serving.errors import InvalidArgument
from trainer.config import TrainingConfig


def prepare(config: TrainingConfig) -> None:
    """Set torch up so that the same seed gives the same weights on the same machine.

    Raises:
        InvalidArgument: a GPU is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument("device", "cuda was asked for, but torch finds no GPU here")
    if config.threads:
        torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with it
    torch.use_deterministic_algorithms(True)
