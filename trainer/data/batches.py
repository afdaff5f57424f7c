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

POSITIONS = 2**14
CELLS = 2**22
"""Positions and logits that are held at once where a whole part is scored."""


class Part:
    """The strings of one part, encoded, one after the other, a boundary before each and after the last.

    So each string's end is the next one's start, and a batch is cut out of it by its strings' places.

    Attributes:
        flat: token ids of all strings with their boundaries.
        starts: where in it each string's first boundary is, [N].
        lengths: characters that each predicts, its end included, [N].
    """

    def __init__(self, strings: Sequence[str], vocabulary: Vocabulary, device: str = "cpu") -> None:
        ids = [BOUNDARY]
        for string in strings:
            ids += vocabulary.encode(string)
            ids.append(BOUNDARY)
        self.vocabulary_size = len(vocabulary)
        self.flat = torch.tensor(ids, dtype=torch.int64, device=device)
        lengths = [len(string) + 1 for string in strings]
        self.lengths = torch.tensor(lengths, dtype=torch.int64, device=device)  # [N]
        self.starts = self.lengths.cumsum(0) - self.lengths  # [N]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def characters(self) -> int:
        """How many characters are predicted, boundaries included."""
        return len(self.flat) - 1

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every character of the part with the one that comes after it in its string."""
        return self.flat[:-1], self.flat[1:]

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and targets of some strings, padded to the longest: [B, T] each."""
        lengths = self.lengths[index, None]  # [B, 1]
        place = torch.arange(int(lengths.max()), device=self.flat.device)  # [T]
        is_past = place >= lengths  # [B, T]
        at = (self.starts[index, None] + place).masked_fill_(is_past, 0)  # [B, T]
        tokens = self.flat[at].masked_fill_(is_past, BOUNDARY)
        return tokens, self.flat[at + 1].masked_fill_(is_past, IGNORED)

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All strings once, the short ones first, as many at a time as memory is given to."""
        order = torch.argsort(self.lengths, stable=True)
        while len(order):
            rows = self.rows_at_once(int(self.lengths[order[0]]))
            rows = self.rows_at_once(int(self.lengths[order[:rows][-1]]))
            yield self.rows(order[:rows])
            order = order[rows:]

    def rows_at_once(self, length: int) -> int:
        """How many strings of a length can be scored at once: B * T and B * T * V are bounded."""
        return max(1, min(POSITIONS, CELLS // self.vocabulary_size) // length)


class Batches:
    """An endless sequence of training batches; batch `i` depends on the seed and on `i` alone.

    So training resumes at any step with the batches that it would have had.
    """

    def __init__(self, part: Part, size: int, seed: int, pool: int = 1) -> None:
        self.part = part
        self.size = size
        self.pool = pool
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
        pool = torch.arange(len(order)) // (self.size * self.pool)
        key = pool * (int(lengths.max()) + 1) + (lengths[order] if self.pool > 1 else 0)
        batches = (
            order[torch.argsort(key, stable=True)].to(self.part.lengths.device).split(self.size)
        )
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]
