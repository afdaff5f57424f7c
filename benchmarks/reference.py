"""The training loop that people write first, as a thing to compare with.

A data set that encodes an item when it is asked for, a DataLoader of 32 items drawn with replacement, every
item padded to the longest, a constant rate, AdamW with plain settings.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from serving.vocabulary import Vocabulary
from trainer.data.batches import Part
from trainer.evaluate import evaluate
from trainer.models.transformer import Transformer, TransformerConfig

STEPS = 15_000
EVERY = 500
BATCH = 32
RATE = 5e-4


class Strings(Dataset[tuple[Tensor, Tensor]]):
    """Strings, encoded one by one when they are asked for."""

    def __init__(self, strings: Sequence[str], vocabulary: Vocabulary, longest: int) -> None:
        self.strings = strings
        self.vocabulary = vocabulary
        self.longest = longest

    def __len__(self) -> int:
        return len(self.strings)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        ids = torch.tensor(self.vocabulary.encode(self.strings[index]), dtype=torch.long)
        tokens = torch.zeros(self.longest + 1, dtype=torch.long)
        targets = torch.full((self.longest + 1,), -1, dtype=torch.long)
        tokens[1 : 1 + len(ids)] = ids
        targets[: len(ids)] = ids
        targets[len(ids)] = 0
        return tokens, targets


@dataclass(frozen=True)
class Look:
    """The dev NLL after some seconds of training, evaluations included."""

    step: int
    seconds: float
    dev_nll: float


def model(vocabulary: Vocabulary, longest: int) -> Transformer:
    """Makemore's default: 4 layers, 4 heads, 64 wide, no dropout of any kind."""
    config = TransformerConfig(layers=4, heads=4, embedding=64, dropout=0.0, token_dropout=0.0)
    return Transformer(config, len(vocabulary), longest)


def looks(
    strings: Sequence[str], dev: Part, vocabulary: Vocabulary, longest: int, steps: int = STEPS
) -> Iterator[Look]:
    """Train, and evaluate every 500 steps."""
    torch.manual_seed(3407)
    network = model(vocabulary, longest)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.99), eps=1e-8
    )
    data = Strings(strings, vocabulary, longest)
    sampler = RandomSampler(data, replacement=True, num_samples=10**9)
    loader = iter(DataLoader(data, batch_size=BATCH, sampler=sampler))
    started = time.perf_counter()
    for step in range(1, steps + 1):
        tokens, targets = next(loader)
        logits = network(tokens)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        network.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            score = evaluate(network, dev)
            yield Look(step, time.perf_counter() - started, score.nll)
