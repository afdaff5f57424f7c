import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidArgument
from trainer.data.dataset import SHIPPED, DataConfig, load, restore, save
from trainer.data.split import PARTS, Shares, assign
from trainer.errors import DataError


@given(st.sets(st.text(max_size=8), min_size=1), st.data())
def test_a_string_stays_in_its_part_when_the_file_grows(
    strings: set[str], data: st.DataObject
) -> None:
    """But for the donors of a part that chance left empty, which shares of 50/50/0 make rare."""
    some = data.draw(st.sets(st.sampled_from(sorted(strings)), min_size=1))
    shares = Shares(50, 50, 0)
    whole, part = assign(strings, shares), assign(some, shares)
    if set(part.values()) == {"train", "dev"}:
        assert all(whole[s] == part[s] or list(part.values()).count("dev") == 1 for s in some)


def test_the_shares_hold_and_order_does_not_matter() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").split()
    parts = assign(lines, Shares())
    counts = [list(parts.values()).count(part) / len(lines) for part in PARTS]
    assert counts == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    random.Random(1).shuffle(lines)
    assert assign(lines, Shares()) == parts


def test_a_small_file_has_something_in_every_part_that_has_a_share() -> None:
    for n in range(10, 40):
        parts = assign([f"word{i}" for i in range(n)], Shares(97, 2, 1))
        assert set(parts.values()) == set(PARTS)


def test_a_part_without_donors_is_left_empty() -> None:
    assert set(
        assign([f"word{i}" for i in range(4)], Shares(0.001, 0.001, 99.998)).values()
    ) <= set(PARTS)


@pytest.mark.parametrize(
    "text", ["80/10", "80/10/11", "-1/91/10", "a/b/c", "100/0/0", "0/50/50", "nan/1/1"]
)
def test_shares_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="split"):
        Shares.parse(text)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WORDS = [f"w{i}" for i in range(100)]


def test_duplicates_are_dropped_and_counted_or_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", WORDS * 2 + WORDS[:5])
    dropped = load(DataConfig(path))
    assert sum(map(len, dropped.parts.values())) == 100
    assert (dropped.about["distinct"], dropped.about["duplicates"]) == (100, 105)
    kept = load(DataConfig(path, keep_duplicates=True))
    assert sum(map(len, kept.parts.values())) == 205
    assert not kept.sets["train"] & kept.sets["dev"]


def test_explicit_files_are_the_parts_and_their_strings_leave_train(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", WORDS)
    dev, test = write(tmp_path / "d.txt", WORDS[:7]), write(tmp_path / "t.txt", ["x1", *WORDS[7:9]])
    dataset = load(DataConfig(data, dev=dev, test=test))
    assert dataset.parts["dev"] == tuple(WORDS[:7])
    assert dataset.parts["test"] == ("x1", *WORDS[7:9])
    assert dataset.parts["train"] == tuple(WORDS[9:])
    assert "x" in dataset.vocabulary.alphabet


def test_a_test_file_alone_leaves_train_and_dev_to_the_split(tmp_path: Path) -> None:
    data, test = write(tmp_path / "a.txt", WORDS), write(tmp_path / "t.txt", WORDS[:50])
    dataset = load(DataConfig(data, test=test))
    assert dataset.parts["test"] == tuple(WORDS[:50])
    assert dataset.parts["dev"]
    assert len(dataset.parts["train"]) + len(dataset.parts["dev"]) == 50


def test_a_part_without_strings_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", WORDS)
    with pytest.raises(DataError, match="no string is left for the train part"):
        load(DataConfig(data, dev=data))


def test_an_empty_dev_file_is_named(tmp_path: Path) -> None:
    data, empty = write(tmp_path / "a.txt", WORDS), write(tmp_path / "empty.txt", [])
    with pytest.raises(DataError, match=r"empty\.txt is empty"):
        load(DataConfig(data, dev=empty))


def test_the_shipped_names_are_known_by_their_content(tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_bytes(SHIPPED.read_bytes())
    assert "Social Security" in load(DataConfig(copy)).about["source"]


def test_the_parts_survive_saving(tmp_path: Path) -> None:
    dataset = load(DataConfig(write(tmp_path / "a.txt", WORDS)))
    save(dataset, tmp_path / "kept")
    assert restore(tmp_path / "kept", dataset.about) == dataset


def test_the_shipped_names_are_what_the_readme_says() -> None:
    about = load(DataConfig()).about
    assert (about["lines"], about["distinct"]) == (29_693, 29_693)
    assert about["sha256"] == SHIPPED_SHA256


SHIPPED_SHA256 = "faf48a683f147bce06a4195079a3080ba95d4559377177abad43ecc3c43ff8dc"
