from pathlib import Path

import pytest

from serving.errors import InvalidArgument, NotFound
from serving.layout import hint
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
    (path / "good" / "lost+found").mkdir()
    (path / ".git" / "1").mkdir(parents=True)
    (path / "README.md").write_text("models")
    (path / "good" / "Notes").write_text("a file")
    repository = loaded(path)
    assert repository.catalogue.find("good").version == 10
    assert repository.refusals == repository.strays == []


def test_a_folder_whose_name_cannot_be_used_is_told_with_what_it_must_be(path: Path) -> None:
    for folder in ("good/v1", "good/01", "good/0", "Names", "my names", "-x", "x\x1b[2J"):
        (path / folder).mkdir()
    repository = loaded(path)
    told = {str(s.path.relative_to(path)): s.reason for s in repository.strays}
    assert set(told) == {"good/v1", "good/01", "good/0", "Names", "my names", "-x", "x\x1b[2J"}
    assert "folder of a version must be named with a whole number from 1" in told["good/v1"]
    assert "folder of a model must be named with 1 to 63 of a-z" in told["Names"]
    assert repository.refusals == []
    repository.load()
    assert len(repository.strays) == 7


def test_a_bounded_number_of_folders_is_told(path: Path) -> None:
    for number in range(100):
        (path / f"V{number}").mkdir()
        (path / "good" / f"v{number}").mkdir()
    assert len(loaded(path).strays) == 20


@pytest.mark.parametrize(
    ("given", "meant"), [("good", "."), ("good/10", "."), ("..", "."), (".", None)]
)
def test_a_path_that_is_a_level_too_deep_or_too_shallow_is_told_with_the_right_one(
    tmp_path: Path, given: str, meant: str | None
) -> None:
    path = tmp_path / "models"
    publish(path, model_bytes(), "good", 10)
    found = hint((path / given).resolve())
    if meant is None:
        (path / "good" / "10" / "model.onnx").unlink()
        assert "it holds good; a model is a file NAME/VERSION/model.onnx" in hint(path)
    else:
        assert found == f"the models are in {path}: start with --repository {path}"


def test_a_folder_without_models_is_told_with_what_it_holds(tmp_path: Path) -> None:
    assert hint(tmp_path).startswith("it is empty; publish a model with makemore export")
    (tmp_path / ".git").mkdir()
    assert hint(tmp_path).startswith("it is empty")
    for number in range(12):
        (tmp_path / f"file{number:02}").touch()
    assert "it holds file00, file01," in hint(tmp_path)
    assert "file11" not in hint(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing is no folder of models"):
        loaded(tmp_path / "missing")
