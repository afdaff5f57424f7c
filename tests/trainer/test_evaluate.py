import math

import pytest
import torch

from serving.vocabulary import Vocabulary
from trainer.data.batches import Part
from trainer.evaluate import baselines, evaluate
from trainer.models.bigram import Bigram, BigramConfig

VOCABULARY = Vocabulary(("a", "b"))


def part(*strings: str) -> Part:
    return Part(strings, VOCABULARY)


def test_nll_is_the_mean_over_characters_with_the_ends() -> None:
    model = Bigram(BigramConfig(), 3, 5)
    table = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    model.log_probabilities.copy_(table.log())
    score = evaluate(model, part("ab", "a"))
    # ^a .7, ab .25, b$ .1; ^a .7, a$ .5
    expected = -sum(map(math.log, (0.7, 0.25, 0.1, 0.7, 0.5))) / 5
    assert score.nll == pytest.approx(expected, abs=1e-6)
    assert (score.characters, score.strings) == (5, 2)


def test_the_order_and_the_neighbours_of_strings_do_not_matter() -> None:
    torch.manual_seed(0)
    model = Bigram(BigramConfig(), 3, 5)
    model.log_probabilities.copy_(torch.randn(3, 3).log_softmax(1))
    strings = ["ab" * (i % 7 + 1) for i in range(3000)]
    apart = [evaluate(model, part(*half)) for half in (strings[:1000], strings[1000:])]
    whole = evaluate(model, part(*reversed(strings)))
    total = sum(score.nll * score.characters for score in apart)
    assert whole.nll == pytest.approx(total / whole.characters, abs=1e-9)


def test_evaluation_leaves_a_model_in_training_as_it_was() -> None:
    model = Bigram(BigramConfig(), 3, 5).train()
    evaluate(model, part("a"))
    assert model.training


def test_baselines_are_what_counting_by_hand_gives() -> None:
    train, dev = part("a", "ab"), part("b")
    found = baselines(train, {"dev": dev, "none": part()}, 3)
    assert found["uniform"]["dev"].nll == pytest.approx(math.log(3))
    # end 2, a 2, b 1; with 1 added: 3, 3, 2 of 8
    assert found["unigram"]["dev"].nll == pytest.approx(-(math.log(2 / 8) + math.log(3 / 8)) / 2)
    # ^: a 2 -> 1, 3, 1 of 5; b: end 1 -> 2, 1, 1 of 4
    assert found["bigram"]["dev"].nll == pytest.approx(-(math.log(1 / 5) + math.log(2 / 4)) / 2)
    assert found["bigram"]["none"].strings == 0
