from pathlib import Path

import numpy as np
import pytest

from serving.client import Client
from serving.repository import load_version
from trainer.evaluate import evaluate
from trainer.export.held_out import ENOUGH, table
from trainer.run import Run
from trainer.train import tensors


def test_a_row_is_of_the_strings_of_its_length_where_they_are_enough() -> None:
    lengths = np.repeat([3, 4, 9], [ENOUGH, ENOUGH, 5])
    log_probs = np.concatenate([np.full(ENOUGH, -3.0), np.full(ENOUGH, -4.0), np.full(5, -9.0)])
    made = table(lengths, log_probs)
    assert list(made.lengths) == [3, 4, 9]
    assert set(made.quantiles[0]) == {-3.0}
    assert set(made.quantiles[1]) == {-4.0}
    assert made.quantiles[2][0] == -9.0
    assert made.quantiles[2][-1] == -4.0


def test_few_strings_make_one_row_of_all() -> None:
    made = table(np.array([2, 5]), np.array([-1.0, -2.0]))
    assert made.quantiles[0] == made.quantiles[1]
    assert (made.quantiles[0][0], made.quantiles[0][-1]) == (-2.0, -1.0)


def test_held_out_strings_are_spread_over_all_percentiles(
    client: Client, runs: dict[str, Run], repository: Path
) -> None:
    run = runs["lstm"]
    texts = run.dataset().parts["dev"] + run.dataset().parts["test"]
    found = [score.percentile for score in client.score(texts, model="lstm")]
    # Of a table made of these very strings, whatever their lengths.
    assert np.mean(found) == pytest.approx(50, abs=2)
    assert np.quantile(found, [0.1, 0.9]) == pytest.approx([10, 90], abs=4)
    assert load_version(repository / "lstm" / "1").manifest.held_out is not None


def test_scores_add_up_to_the_nll_of_a_part(client: Client, runs: dict[str, Run]) -> None:
    for name in ("bigram", "mlp", "transformer"):
        run = runs[name]
        dev = run.dataset().parts["dev"]
        scores = client.score(dev, model=name)
        total = -sum(score.log_prob for score in scores)
        score = evaluate(run.load_model(), tensors(run.dataset(), run.config)["dev"])
        assert total / score.characters == pytest.approx(score.nll, abs=1e-5)
