"""The worked examples of docs/examples.md, run as they stand but for the server and how much they make."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from trainer.data.dataset import SHIPPED

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "examples.md").read_text(), re.DOTALL)

Run = Callable[..., str]


@pytest.fixture
def run(
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run an example with some of its text replaced; what it prints."""

    def play(number: int, **replaced: str) -> str:
        monkeypatch.chdir(tmp_path)
        text = BLOCKS[number].replace("127.0.0.1:50051", address)
        for name, value in replaced.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert count == 1
        exec(compile(text, f"example {number}", "exec"), {"__name__": "example"})
        return capsys.readouterr().out

    return play


def test_many_names_are_all_different(run: Run, tmp_path: Path) -> None:
    run(0, COUNT="3000")
    names = (tmp_path / "names.txt").read_text(encoding="utf-8").split()
    assert len(names) == pytest.approx(3000, rel=0.2)  # rounded shares
    assert len(set(names)) == len(names)


def test_user_names_are_new_and_keep_the_rules(run: Run) -> None:
    *names, last = run(1).splitlines()
    assert len(set(names)) == 8
    for name in names:
        assert re.fullmatch("em[a-z]{3,7}", name)
        assert "xx" not in name
        assert "zz" not in name
    assert last.startswith("thrown away:")


def test_names_score_better_than_gibberish(run: Run, tmp_path: Path) -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()[:3000]
    short = [line for line in lines if len(line) <= 8]
    (tmp_path / "names.txt").write_text("\n".join(short), encoding="utf-8")
    printed = run(2, NAMES='"names.txt"')
    areas = dict(line.split(": ") for line in printed.splitlines())
    assert list(areas) == ["random letters", "shuffled names", "machine-made"]
    # With a model of the tests that has hardly been trained; the committed one's are in the text.
    assert float(areas["machine-made"]) > 0.9
    assert float(areas["shuffled names"]) > 0.5


def test_towns_keep_their_names(run: Run) -> None:
    first = run(3, MODEL='"lstm@1"')
    assert run(3, MODEL='"lstm@1"') == first
    towns = first.split()
    assert len(towns) == 9
    assert all(re.fullmatch("[A-Z][a-z]{2,7}a", town) for town in towns)
