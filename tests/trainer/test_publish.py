import shutil
from pathlib import Path

import pytest

from serving.errors import InvalidArgument
from trainer.errors import RunError
from trainer.export.export import export
from trainer.export.publish import Taken, next_version, publish
from trainer.run import Run


def test_versions_go_up_and_are_never_replaced(tmp_path: Path, runs: dict[str, Run]) -> None:
    first, _ = export(runs["bigram"], "m", tmp_path)
    before = {path: path.read_bytes() for path in first.iterdir()}
    second, _ = export(runs["bigram"], "m", tmp_path)
    assert (first.name, second.name) == ("1", "2")
    assert {path: path.read_bytes() for path in first.iterdir()} == before
    with pytest.raises(Taken, match="cannot write"):
        publish(first, {"model.onnx": b"other"})
    assert {path: path.read_bytes() for path in first.iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1", "2"]
    shutil.rmtree(first)
    assert next_version(tmp_path / "m") == 3


def test_a_publication_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        publish(tmp_path / "m" / "1", {"model.onnx": b"bytes"})
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize("name", ["", "Names", "../names", ".names", "a" * 64, "na mes"])
def test_a_name_that_no_folder_should_have_is_refused(
    tmp_path: Path, runs: dict[str, Run], name: str
) -> None:
    with pytest.raises(InvalidArgument, match=r"^name: "):
        export(runs["bigram"], name, tmp_path)


def test_two_exports_at_once_take_one_version_each(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([1, 1, 2])
    monkeypatch.setattr("trainer.export.export.next_version", lambda folder: next(numbers))
    folders = [export(runs["bigram"], "m", tmp_path)[0].name for _ in range(2)]
    assert folders == ["1", "2"]
    assert "# m, version 2" in (tmp_path / "m" / "2" / "README.md").read_text()
