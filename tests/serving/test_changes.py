"""A repository that changes while it is served."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import aliases, verification
from serving import repository as repository_module
from serving.errors import BadModel, NotFound, Undecided
from serving.repository import Model, Repository
from tests.serving.graphs import manifest, model_bytes, publish


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """`good` in version 1, loaded."""
    publish(tmp_path, model_bytes())
    repository = Repository(tmp_path)
    repository.load()
    return repository


def names(repository: Repository) -> list[str]:
    return [model.full_name for model in repository.catalogue.list()]


def reasons(repository: Repository) -> list[str]:
    return [f"{r.path.relative_to(repository.path)}: {r.reason}" for r in repository.refusals]


def test_what_has_not_changed_is_not_read_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = repository.catalogue.find("good")
    (repository.path / "good" / "2").mkdir()
    repository.load()
    monkeypatch.setattr(repository_module, "load_version", None)
    repository.load()
    assert repository.catalogue.find("good") == before
    assert reasons(repository) == ["good/2: SHA256SUMS cannot be read: No such file or directory"]


def test_a_new_version_is_taken_over_and_a_removed_one_given_up(repository: Repository) -> None:
    publish(repository.path, model_bytes(), version=2)
    publish(repository.path, model_bytes(manifest("other")), "other")
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2", "models/other@1"]
    shutil.rmtree(repository.path / "good" / "1")
    shutil.rmtree(repository.path / "other")
    repository.load()
    assert names(repository) == ["models/good@2"]
    assert reasons(repository) == []


def test_a_version_that_is_put_in_the_place_of_another_is_taken_over(
    repository: Repository,
) -> None:
    before = repository.catalogue.find("good").digest
    shutil.rmtree(repository.path / "good" / "1")
    publish(repository.path, model_bytes(manifest(max_length=5)))
    repository.load()
    assert repository.catalogue.find("good").digest != before
    assert repository.catalogue.find("good").manifest.max_length == 5


def test_a_half_copied_version_is_taken_over_once_it_is_whole(repository: Repository) -> None:
    whole = publish(repository.path / "elsewhere", model_bytes(), version=2)
    half = repository.path / "good" / "2"
    half.mkdir()
    shutil.copy(whole / "SHA256SUMS", half)
    repository.load()
    assert names(repository) == ["models/good@1"]
    assert "model.onnx cannot be read" in reasons(repository)[0]
    shutil.copy(whole / "model.onnx", half)
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2"]
    assert reasons(repository) == []


def test_a_version_that_is_spoilt_while_it_is_served_is_served_on(repository: Repository) -> None:
    before = repository.catalogue.find("good@1")
    with (repository.path / "good" / "1" / "model.onnx").open("r+b") as file:
        file.truncate(10)
    repository.load()
    assert repository.catalogue.find("good@1") == before
    assert "its SHA-256 does not hold" in reasons(repository)[0]


def test_what_is_refused_by_whoever_begins_it_is_not_served(repository: Repository) -> None:
    publish(repository.path, model_bytes(), version=2)

    def refuse(model: Model) -> None:
        raise BadModel("the first step fails")

    repository.load(refuse)
    assert names(repository) == ["models/good@1"]
    assert reasons(repository) == ["good/2: the first step fails"]


def test_the_last_good_version_stays_while_all_others_are_bad(repository: Repository) -> None:
    publish(repository.path, b"bad", version=2)
    shutil.rmtree(repository.path / "good" / "1")
    repository.load()
    assert names(repository) == ["models/good@1"]
    assert "good/1: is gone, but served on" in reasons(repository)[1]
    publish(repository.path, model_bytes(), version=3)
    repository.load()
    assert names(repository) == ["models/good@3"]


@pytest.mark.parametrize("default", ["other", "other@1", "other@stable"])
def test_the_default_stays_as_long_as_nothing_else_is_meant_by_it(
    repository: Repository, default: str
) -> None:
    other = publish(repository.path, model_bytes(manifest("other")), "other")
    aliases.write(other.parent, "stable", 1)
    repository = Repository(repository.path, default)
    repository.load()
    shutil.rmtree(other.parent)
    repository.load()
    assert repository.catalogue.find("").full_name == "models/other@1"
    assert "other/1: is gone, but served on" in reasons(repository)[0]


def test_a_repository_that_is_empty_or_gone_changes_nothing(repository: Repository) -> None:
    aliases.write(repository.path / "good", "stable", 1)
    repository.load()
    shutil.rmtree(repository.path / "good")
    repository.load()
    assert repository.catalogue.find("good@stable").full_name == "models/good@1"
    repository.path.rmdir()
    with pytest.raises(NotFound):
        repository.load()
    assert repository.catalogue.find("good@stable").full_name == "models/good@1"
    publish(repository.path, model_bytes(), version=2)
    repository.load()
    assert names(repository) == ["models/good@2"]


def test_what_was_refused_is_looked_at_again_only_when_it_is_asked_for(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine too busy to try a version out in time refused it until its files were written anew."""
    publish(repository.path, model_bytes(), version=2)

    def busy(*arguments: object) -> Model:
        raise BadModel("trying it out took too long")

    with monkeypatch.context() as patch:
        patch.setattr(repository_module, "load_version", busy)
        repository.load()
    repository.load()
    assert names(repository) == ["models/good@1"]
    repository.reconsider()
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2"]
    assert reasons(repository) == []


def test_a_good_version_whose_verifier_was_killed_is_served_at_the_next_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> "subprocess.Popen[bytes]":
        process = started()
        process.kill()
        return process

    started = verification._started
    monkeypatch.setattr(verification, "_verified", set())
    publish(tmp_path, model_bytes())
    repository = Repository(tmp_path, max_rows=8)
    with monkeypatch.context() as patch:
        patch.setattr(verification, "_started", killed)
        repository.load()
    assert "as happens when memory is short; it will be tried again" in reasons(repository)[0]
    repository.load()
    assert names(repository) == ["models/good@1"]
    assert reasons(repository) == []


def test_what_could_not_be_judged_is_tried_again_less_and_less_often(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, tried = [0.0], []

    def busy(*arguments: object) -> Model:
        tried.append(now[0])
        raise Undecided("trying it out took too long")

    monkeypatch.setattr("serving.repository.time.monotonic", lambda: now[0])
    publish(repository.path, model_bytes(), version=2)
    with monkeypatch.context() as patch:
        patch.setattr(repository_module, "load_version", busy)
        for _ in range(20):
            repository.load()
            now[0] += 5.0
        assert tried == [0.0, 5.0, 10.0, 20.0, 40.0, 80.0]
        assert names(repository) == ["models/good@1"]
        assert reasons(repository) == [
            "good/2: trying it out took too long; it will be tried again"
        ]
        for _ in range(2000):  # and for ever
            now[0] += repository_module.MAX_RETRY
            repository.load()
        assert len(tried) == 2006
    now[0] += repository_module.MAX_RETRY
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2"]
    assert reasons(repository) == []


def test_what_could_not_be_judged_is_tried_at_once_when_it_changes_or_somebody_asks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def busy(*arguments: object) -> Model:
        tried.append(1)
        raise Undecided("trying it out took too long")

    monkeypatch.setattr("serving.repository.time.monotonic", lambda: 0.0)
    monkeypatch.setattr(repository_module, "load_version", busy)
    folder = publish(repository.path, model_bytes(), version=2)
    for _ in range(5):
        repository.load()
    assert len(tried) == 2
    (folder / ".note").touch()
    repository.load()
    assert len(tried) == 3
    repository.load()
    repository.load()
    assert len(tried) == 4
    repository.reconsider()
    repository.load()
    assert len(tried) == 5


def test_an_alias_follows_its_file(repository: Repository) -> None:
    folder = repository.path / "good"
    publish(repository.path, model_bytes(), version=2)
    aliases.write(folder, "stable", 1)
    aliases.write(folder, "old", 1)
    repository.load()
    assert repository.catalogue.find("models/good@stable").version == 1
    assert repository.catalogue.find("good@1").aliases == ("old", "stable")
    aliases.write(folder, "stable", 2)
    repository.load()
    assert repository.catalogue.find("good@stable").version == 2
    aliases.write(folder, "stable", None)
    repository.load()
    with pytest.raises(NotFound, match="has no version 'stable'; it has: 1, 2, old"):
        repository.catalogue.find("good@stable")


def test_an_alias_means_what_it_did_until_what_it_is_to_mean_is_served(
    repository: Repository,
) -> None:
    folder = repository.path / "good"
    publish(repository.path, b"bad", version=2)
    for alias, version in (("stable", 1), ("new", 2)):
        aliases.write(folder, alias, version)
    repository.load()
    with pytest.raises(NotFound, match="no version 2, which 'new' means; it has: 1"):
        repository.catalogue.find("good@new")
    aliases.write(folder, "stable", 2)
    repository.load()
    assert repository.catalogue.find("good@stable").version == 1
    assert "good: aliases.json: 'stable' means version 2, which is not served" in reasons(
        repository
    )
    shutil.rmtree(folder / "2")
    publish(repository.path, model_bytes(), version=2)
    repository.load()
    assert repository.catalogue.find("good@stable").version == 2


def test_aliases_that_cannot_be_read_leave_the_old_ones(repository: Repository) -> None:
    folder = repository.path / "good"
    aliases.write(folder, "stable", 1)
    repository.load()
    (folder / "aliases.json").write_text("{")
    repository.load()
    assert repository.catalogue.find("good@stable").version == 1
    assert reasons(repository) == ["good: aliases.json is not JSON of at most 65,536 bytes"]


def test_a_folder_that_cannot_be_read_is_refused_and_the_others_are_served(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository.path, model_bytes(), version=2)
    (repository.path / "locked").mkdir()
    iterdir = Path.iterdir

    def refused(self: Path) -> Iterator[Path]:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2"]
    assert reasons(repository) == ["locked: cannot be read: Permission denied"]


def test_what_could_not_be_loaded_for_the_moment_is_looked_at_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository.path, model_bytes(), version=2)
    load_version = repository_module.load_version

    def busy(*arguments: object) -> Model:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(repository_module, "load_version", busy)
    repository.load()
    assert names(repository) == ["models/good@1"]
    monkeypatch.setattr(repository_module, "load_version", load_version)
    repository.load()
    assert names(repository) == ["models/good@1", "models/good@2"]
    assert reasons(repository) == []


def test_a_model_whose_folder_may_not_be_read_any_more_is_served_on(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository.path, model_bytes(manifest(name="other")), "other")
    repository.load()
    iterdir = Path.iterdir

    def refused(self: Path) -> Iterator[Path]:
        if self.name == "good":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    publish(repository.path, model_bytes(manifest(name="other")), "other", version=2)
    repository.load()
    assert names(repository) == ["models/good@1", "models/other@1", "models/other@2"]
    assert reasons(repository) == ["good: cannot be read: Permission denied"]
