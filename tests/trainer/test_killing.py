import json
import os
import subprocess
import sys
from pathlib import Path

from trainer.files import POINTS


def test_a_training_killed_at_any_point_of_writing_goes_on_to_the_same_weights(
    tmp_path: Path, names: Path
) -> None:
    """100 kills, each at a random passing of one of the named points."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.killing", str(tmp_path), str(names), "100"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert sum(found["killed"].values()) == 100
    assert all(found["killed"][point] >= 16 for point in POINTS)
