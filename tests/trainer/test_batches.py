import torch

from serving.vocabulary import Vocabulary
from trainer.data.batches import CELLS, IGNORED, Batches, Part

VOCABULARY = Vocabulary(tuple("abc"))
STRINGS = ["a", "abc", "cab", "bb", "c" * 7, "a"]


def test_the_boundary_comes_first_in_what_is_fed_and_last_in_what_is_asked() -> None:
    tokens, targets = Part(STRINGS, VOCABULARY).rows(torch.tensor([1, 0]))
    assert tokens.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert targets.tolist() == [[1, 2, 3, 0], [1, 0, IGNORED, IGNORED]]


def test_characters_count_the_ends() -> None:
    part = Part(STRINGS, VOCABULARY)
    assert part.characters == sum(len(s) + 1 for s in STRINGS)
    assert part.characters == sum(int((t != IGNORED).sum()) for _, t in part.in_order())


def test_in_order_gives_every_string_once_even_of_an_empty_part() -> None:
    part = Part(STRINGS * 3000, VOCABULARY)
    batches = list(part.in_order())
    assert len(batches) > 1
    texts = sorted(tuple(row[row > 0].tolist()) for tokens, _ in batches for row in tokens)
    assert texts == sorted(tuple(VOCABULARY.encode(string)) for string in STRINGS * 3000)
    assert list(Part([], VOCABULARY).in_order()) == []


def test_what_is_held_at_once_is_bounded_whatever_the_alphabet_and_the_length() -> None:
    large = Vocabulary(tuple(map(chr, range(0x4E00, 0x4E00 + 4096))))
    part = Part(["\u4e00" * 512] * 10 + ["\u4e01"] * 5000, large)
    assert sum(len(tokens) for tokens, _ in part.in_order()) == 5010
    for tokens, _ in part.in_order():
        assert tokens.numel() <= max(CELLS // len(large), 513)


def test_pairs_are_every_character_with_the_next() -> None:
    tokens, targets = Part(["ab", "c"], VOCABULARY).pairs
    assert list(zip(tokens.tolist(), targets.tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 0),
        (0, 3),
        (3, 0),
    ]


def test_an_epoch_has_every_string_once() -> None:
    part = Part([f"{'abc'[i % 3] * (i % 9 + 1)}" for i in range(100)], VOCABULARY)
    batches = Batches(part, 16, seed=3, pool=2)
    for epoch in range(2):
        epoch_batches = [batches[epoch * 7 + i][0] for i in range(7)]
        assert sum(map(len, epoch_batches)) == 100
        texts = sorted(row[row != 0].tolist() for batch in epoch_batches for row in batch)
        assert texts == sorted(row[row != 0].tolist() for row in part.rows(torch.arange(100))[0])


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    part = Part([f"{'abc'[i % 3] * (i % 9 + 1)}" for i in range(100)], VOCABULARY)
    forward = [Batches(part, 16, seed=3, pool=2)[i] for i in range(20)]
    again = Batches(part, 16, seed=3, pool=2)
    for i in reversed(range(20)):
        assert all(map(torch.equal, again[i], forward[i]))
    other = Batches(part, 16, seed=4)
    assert not all(torch.equal(other[i][0], forward[i][0]) for i in range(7))
