from pathlib import Path

import pytest

from serving.errors import InvalidArgument, NotFound
from serving.repository import Repository
from tests.serving.graphs import manifest, model_bytes, publish


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """`good` in versions 1, 2 and 10, and `other` in version 1."""
    for version in (1, 2, 10):
        publish(tmp_path, model_bytes(), "good", version)
    publish(tmp_path, model_bytes(manifest("other")), "other")
    return tmp_path


def loaded(path: Path, default: str = "") -> Repository:
    repository = Repository(path, default)
    repository.load()
    return repository


@pytest.mark.parametrize(
    ("asked", "full_name"),
    [
        ("good", "models/good@10"),
        ("good@2", "models/good@2"),
        ("models/good@1", "models/good@1"),
        ("models/other", "models/other@1"),
        ("", "models/other@1"),
    ],
)
def test_a_name_means_its_highest_version_unless_it_says_which(
    path: Path, asked: str, full_name: str
) -> None:
    assert loaded(path, default="other").catalogue.find(asked).full_name == full_name


@pytest.mark.parametrize(
    "asked", ["bad", "good@", "good@3", "good@x", "good@0", "good@01", "../good", "a\nb"]
)
def test_what_is_not_there_is_not_found_and_the_message_has_one_line(
    path: Path, asked: str
) -> None:
    with pytest.raises(NotFound, match=r"^[^\n]*$"):
        loaded(path).catalogue.find(asked)


def test_a_request_without_a_model_means_the_only_one_or_is_refused(path: Path) -> None:
    with pytest.raises(InvalidArgument, match="must name one of: good, other"):
        loaded(path).catalogue.find("")
    (path / "other" / "1" / "SHA256SUMS").unlink()
    assert loaded(path).catalogue.find("").name == "good"


def test_models_are_listed_by_name_then_by_version(path: Path) -> None:
    names = [model.full_name for model in loaded(path).catalogue.list()]
    assert names == ["models/good@1", "models/good@2", "models/good@10", "models/other@1"]


def test_the_digest_is_that_of_the_file(path: Path) -> None:
    model = loaded(path).catalogue.find("other")
    assert (path / "other" / "1" / "SHA256SUMS").read_text().startswith(model.digest)


def corrupt(folder: Path, kind: str) -> None:
    """Spoil a version in one of the ways that a version is spoilt."""
    model, sums = folder / "model.onnx", folder / "SHA256SUMS"
    content = model.read_bytes()
    match kind:
        case "flipped byte":
            model.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case "truncated":
            model.write_bytes(content[:-1])
        case "no model":
            model.unlink()
        case "no sums":
            sums.unlink()
        case "empty sums":
            sums.write_text("")
        case "sums of another file":
            sums.write_text(f"{'0' * 64}  ../../other/1/model.onnx\n")
        case "sums without their end":
            sums.write_text(sums.read_text()[:-1])
        case "sums that end too early":
            (folder / "known.u64").write_bytes(b"\0" * 8)
        case "sums not text":
            sums.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("flipped byte", "does not hold"),
        ("truncated", "does not hold"),
        ("no model", "model.onnx cannot be read"),
        ("no sums", "SHA256SUMS cannot be read"),
        ("empty sums", "does not name model.onnx"),
        ("sums of another file", "is not a sum and a file's name"),
        ("sums without their end", "SHA256SUMS: its last line has no end"),
        ("sums that end too early", "does not name 'known.u64', which is there"),
        ("sums not text", "SHA256SUMS cannot be read"),
    ],
)
def test_a_spoilt_version_is_refused_and_the_others_are_served(
    path: Path, kind: str, reason: str
) -> None:
    corrupt(path / "good" / "10", kind)
    repository = loaded(path)
    assert [(r.path, reason in r.reason) for r in repository.refusals] == [
        (path / "good" / "10", True)
    ]
    assert repository.catalogue.find("good").version == 2


def test_a_name_that_is_not_its_folders_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes(), "renamed")
    assert "the folder's 'renamed'" in loaded(tmp_path).refusals[0].reason


def test_half_published_and_foreign_folders_are_passed_over(path: Path) -> None:
    (path / "good" / ".11.123.part").mkdir()
    (path / "good" / "notes").mkdir()
    (path / ".git" / "1").mkdir(parents=True)
    (path / "README.md").write_text("models")
    repository = loaded(path)
    assert repository.catalogue.find("good").version == 10
    assert repository.refusals == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing is no folder of models"):
        loaded(tmp_path / "missing")
