import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving import aliases
from serving.cli import main
from serving.errors import BadModel, InvalidArgument, NotFound, Unwritable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for version in (1, 2):
        (tmp_path / "names" / str(version)).mkdir(parents=True)
    return tmp_path / "names"


def test_what_is_written_is_read_and_a_model_has_none_at_first(folder: Path) -> None:
    assert aliases.read(folder) == {}
    assert aliases.write(folder, "stable", 2) == {"stable": 2}
    aliases.write(folder, "canary", 2)
    aliases.write(folder, "stable", 1)
    assert aliases.read(folder) == {"stable": 1, "canary": 2}
    aliases.write(folder, "canary", None)
    assert aliases.read(folder) == {"stable": 1}
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "aliases.json"]


@pytest.mark.parametrize("alias", ["", "2", "1st", "Stable", "a b", "../x", "a" * 64, "ä"])
def test_an_alias_that_might_be_taken_for_something_else_is_refused(
    folder: Path, alias: str
) -> None:
    with pytest.raises(InvalidArgument, match="alias"):
        aliases.write(folder, alias, 1)


def test_a_version_or_alias_that_is_not_there_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound, match="has no version 3"):
        aliases.write(folder, "stable", 3)
    with pytest.raises(NotFound, match="has no alias 'stable'"):
        aliases.write(folder, "stable", None)
    with pytest.raises(NotFound, match="nowhere is no model's folder"):
        aliases.write(folder.parent / "nowhere", "stable", None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 50_000, "is not JSON"),
        (b'{"a": 1' + b" " * 2**16 + b"}", "is larger than 65,536 bytes"),
        (json.dumps({f"a{i}": 1 for i in range(65)}).encode(), "has more than 64 aliases"),
        (b'{"stable": 1000000000}', "'stable' is not an alias with the version"),
        (b'{"stable": 1' + b"0" * 4000 + b"}", "'stable' is not an alias with the version"),
        (b"[1]", "is not a JSON object"),
        (b'{"stable": "2"}', "'stable' is not an alias with the version"),
        (b'{"stable": true}', "'stable' is not an alias with the version"),
        (b'{"stable": 0}', "'stable' is not an alias with the version"),
        (b'{"2": 1}', "'2' is not an alias with the version"),
    ],
)
def test_a_file_that_is_none_is_refused_and_not_written_over(
    folder: Path, content: bytes, reason: str
) -> None:
    (folder / "aliases.json").write_bytes(content)
    with pytest.raises(BadModel, match=reason):
        aliases.read(folder)
    with pytest.raises(BadModel, match=reason):
        aliases.write(folder, "stable", 1)
    assert (folder / "aliases.json").read_bytes() == content


def test_a_model_has_a_bounded_number_of_aliases(folder: Path) -> None:
    every = {f"a{i}": 1 for i in range(aliases.MAX_ALIASES)}
    (folder / "aliases.json").write_text(json.dumps(every))
    with pytest.raises(InvalidArgument, match="aliases of a model: must be from 0 to 64"):
        aliases.write(folder, "stable", 1)
    assert aliases.write(folder, "a0", 2) == aliases.read(folder) == {**every, "a0": 2}


def test_what_cannot_be_written_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases.write(folder, "stable", 1)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(Unwritable, match=r"aliases\.json: No space left"):
        aliases.write(folder, "stable", 2)
    assert aliases.read(folder) == {"stable": 1}
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2", "aliases.json"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["alias", *arguments])


def test_the_command_tells_what_every_alias_means_now(folder: Path) -> None:
    at = ["--repository", str(folder.parent)]
    assert run("names", "stable", "1", *at).output == "names@stable is version 1\n"
    done = run("names", "canary", "2", *at)
    assert done.output == "names@canary is version 2, names@stable is version 1\n"
    run("names", "canary", "--remove", *at)
    assert run("names", "stable", "--remove", *at).output == "names has no aliases\n"
    assert json.loads((folder / "aliases.json").read_text()) == {}


def test_the_command_names_what_is_wrong_in_one_line(folder: Path) -> None:
    at = ["--repository", str(folder.parent)]
    for arguments, reason in (
        (["names", "stable", "7"], "has no version 7"),
        (["nowhere", "stable", "1"], "has no version 1"),
        (["../names", "stable", "1"], "'../names' must be"),
        (["names", "stable"], "give a VERSION, or --remove"),
        (["names", "stable", "1", "--remove"], "give a VERSION, or --remove"),
    ):
        done = run(*arguments, *at)
        assert done.exit_code == 2
        assert reason in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("pipe", "no plain file"), ("folder", "Is a directory"), ("dangling link", "is a link")],
)
def test_what_is_no_plain_file_is_refused_and_not_taken_for_none(
    folder: Path, kind: str, reason: str
) -> None:
    path = folder / aliases.FILE
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(BadModel, match=f"aliases.json cannot be read: .*{reason}"):
        aliases.read(folder)


def test_a_folder_that_may_not_be_read_is_not_one_without_aliases(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refused)
    with pytest.raises(BadModel, match="cannot be read: Permission denied"):
        aliases.read(folder)
