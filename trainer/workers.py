"""One training in several processes, on one machine or many, as `torchrun` starts them.

Each process takes its share of every batch's strings; gradients are summed, so that all of them take the
step that one process would take with the whole batch. The first one alone writes and prints.
"""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.batches import IGNORED


@dataclass(frozen=True)
class Workers:
    """This process among `count`; a single one does nothing at all."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints and prints."""
        return self.rank == 0

    def start(self, device: str) -> None:
        """Meet the other processes: over NCCL on GPUs, over gloo elsewhere."""
        if self.count > 1:
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    def stop(self) -> None:
        """Part from the others."""
        if self.count > 1:
            dist.destroy_process_group()

    def share(self, tokens: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """This process's strings of a batch: every `count`th; if none is left, one that counts nothing."""
        if self.count == 1:
            return tokens, targets
        if self.rank >= len(tokens):
            return tokens[:1], torch.full_like(targets[:1], IGNORED)
        return tokens[self.rank :: self.count], targets[self.rank :: self.count]

    def summed(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one exchange."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool, device: str) -> bool:
        """Whether the flag is set in any process, for all of them alike."""
        if self.count == 1:
            return flag
        value = torch.tensor([float(flag)], device=device)
        dist.all_reduce(value)
        return bool(value.item())

    def barrier(self) -> None:
        """Wait until every process has come this far."""
        if self.count > 1:
            dist.barrier()


def from_environment() -> Workers:
    """The workers that torchrun has told of; one, if it has not."""
    return Workers(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
