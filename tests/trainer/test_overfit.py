import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL
from trainer.data.batches import Part
from trainer.data.dataset import DataConfig
from trainer.errors import DataError
from trainer.evaluate import evaluate
from trainer.overfit import floor, verdict
from trainer.train import new_run, train


def test_the_floor_is_the_entropy_of_contradicting_continuations() -> None:
    # after the boundary: a twice, b once; after "a": end once, b once; nothing else contradicts
    strings = ["a", "ab", "b"]
    start = -(2 * math.log(2 / 3) + math.log(1 / 3))
    assert floor(strings, None) == pytest.approx((start + 2 * math.log(2)) / 7)


def test_a_model_that_sees_less_has_a_higher_floor() -> None:
    strings = ["ab", "cb", "abc"]
    assert floor(strings, 1) > floor(strings, 2) >= floor(strings, None)
    assert floor(["abc"], None) == 0.0


def test_the_verdict_says_which_it_is() -> None:
    assert verdict(0.01, ["abc"], None) == (
        True,
        "overfit on 1 strings: loss 0.0100, floor 0.0000 nats a character: learned by heart",
    )
    assert not verdict(0.03, ["abc"], None)[0]


@pytest.mark.parametrize(
    ("name", "flags"), [("bigram", {}), ("mlp", SMALL["mlp"]), ("gru", SMALL["gru"])]
)
def test_a_model_learns_a_few_strings_by_heart(
    tmp_path: Path, names: Path, name: str, flags: dict[str, Any]
) -> None:
    run, dataset = new_run(
        tmp_path, name, DataConfig(names), flags,
        {"threads": 1, "steps": 400, "learning_rate": 0.02}, overfit=8,
    )  # fmt: skip
    train(run, dataset, resume=False, is_terminal=False)
    model, strings = run.load_model(), dataset.parts["train"]
    assert len(strings) == 8
    nll = evaluate(model, Part(strings, run.config.vocabulary)).nll
    reached, line = verdict(nll, strings, model.sees)
    assert reached, line


def test_more_strings_than_there_are_is_refused(tmp_path: Path, names: Path) -> None:
    with pytest.raises(DataError, match="1,000 distinct strings, fewer than 2,000"):
        new_run(tmp_path, "gru", DataConfig(names), {}, {}, overfit=2000)
