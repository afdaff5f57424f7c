"""Strings as tensors, and batches of strings of like length.

B is the number of strings in a batch, T the longest of them with its boundary.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from serving.vocabulary import BOUNDARY, Vocabulary

IGNORED = -1
"""The target where a string has ended; the loss leaves it out."""

POOL = 32
"""Batches' worth of shuffled strings that are sorted by length together: little padding, much chance."""


class Part:
    """The strings of one part, encoded and padded in memory."""

    def __init__(self, strings: Sequence[str], vocabulary: Vocabulary, device: str = "cpu") -> None:
        encoded = [vocabulary.encode(string) for string in strings]
        width = max(map(len, encoded), default=0)
        padded = [ids + [IGNORED] * (width - len(ids)) for ids in encoded]
        ids = torch.tensor(padded, dtype=torch.int64, device=device).view(len(encoded), width)
        end = torch.full((len(encoded), 1), IGNORED, device=device)
        # Boundary first for what is fed, last for what is asked; both [N, longest + 1].
        self.tokens = torch.cat([torch.full_like(end, BOUNDARY), ids.clamp(min=0)], dim=1)
        self.targets = torch.cat([ids, end], dim=1)
        lengths = [len(ids) + 1 for ids in encoded]
        self.lengths = torch.tensor(lengths, dtype=torch.int64, device=device)  # [N]
        self.targets[torch.arange(len(encoded)), self.lengths - 1] = BOUNDARY

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def characters(self) -> int:
        """How many characters are predicted, boundaries included."""
        return int(self.lengths.sum())

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and targets of some strings, cut to the longest: [B, T] each."""
        width = int(self.lengths[index].max())
        return self.tokens[index, :width], self.targets[index, :width]

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All strings once, the short ones first, `size` at a time."""
        for index in torch.argsort(self.lengths, stable=True).split(size):
            if len(index):  # splitting nothing gives one empty piece
                yield self.rows(index)


class Batches:
    """An endless sequence of training batches; batch `i` depends on the seed and on `i` alone.

    So training resumes at any step with the batches that it would have had.
    """

    def __init__(self, part: Part, size: int, seed: int) -> None:
        self.part = part
        self.size = size
        self.seed = seed
        self.per_epoch = -(-len(part) // size)
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets of batch `i`: [B, T] each."""
        epoch, place = divmod(i, self.per_epoch)
        return self.part.rows(self._epoch(epoch)[place])

    def _shuffle(self, epoch: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        lengths = self.part.lengths.cpu()
        order = torch.randperm(len(lengths), generator=generator)
        pool = torch.arange(len(order)) // (self.size * POOL)
        key = pool * (int(lengths.max()) + 1) + lengths[order]
        batches = (
            order[torch.argsort(key, stable=True)].to(self.part.lengths.device).split(self.size)
        )
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]
