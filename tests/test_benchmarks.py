"""The peers that benchmarks compare with are not handicapped."""

import torch

from benchmarks import reference
from serving.vocabulary import Vocabulary


def test_the_plain_loop_trains_without_dropout() -> None:
    vocabulary = Vocabulary(tuple("abcdefgh"))
    torch.manual_seed(1)
    network = reference.model(vocabulary, 12).train()
    tokens = torch.randint(1, len(vocabulary), (32, 13))
    assert torch.equal(network(tokens), network(tokens))
