import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import text_files
from serving import vocabulary as vocabularies
from serving.errors import InvalidArgument
from serving.vocabulary import (
    COMPOSED,
    UnknownCharacter,
    Vocabulary,
    composing_starters,
    is_normalized,
    may_change,
    normalise,
    normalise_up_to,
    normalized_length,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(normalise)


@given(st.lists(texts, min_size=1))
def test_encoding_and_decoding_gives_the_text_back(strings: list[str]) -> None:
    vocabulary = Vocabulary.of(strings)
    for string in strings:
        ids = vocabulary.encode(string)
        assert 0 not in ids
        assert vocabulary.decode(ids) == string


@given(st.lists(texts, min_size=1))
def test_rows_of_ids_are_decoded_as_each_of_them_whatever_comes_after(strings: list[str]) -> None:
    vocabulary = Vocabulary.of(strings)
    ids = np.full((len(strings), 21), -1, np.int32)
    for row, string in enumerate(strings):
        ids[row, : len(string)] = vocabulary.encode(string)
    assert vocabularies.texts(vocabulary.code_points(ids), list(map(len, strings))) == strings


def test_ids_run_from_one_in_the_order_of_the_alphabet() -> None:
    vocabulary = Vocabulary(("b", "a"))
    assert vocabulary.encode("ab") == [2, 1]
    assert len(vocabulary) == 3


def test_an_unknown_character_is_named_with_its_position() -> None:
    with pytest.raises(UnknownCharacter, match=r"'é' \(U\+00E9.*\) at position 2") as caught:
        Vocabulary.of(["ab"]).encode("abéa")
    assert caught.value.position == 2


def test_an_invisible_character_is_named_by_its_code_point_alone() -> None:
    with pytest.raises(UnknownCharacter, match=r"the character \(U\+202E, RIGHT-TO-LEFT"):
        Vocabulary.of(["ab"]).encode("a\u202eb")


@pytest.mark.parametrize("alphabet", [(), ("a", "a"), ("ab",), ("",)])
def test_alphabets_that_cannot_be_are_refused(alphabet: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"^alphabet: "):
        Vocabulary(alphabet)


def test_no_character_is_composed_of_more_than_is_reckoned_with() -> None:
    longest = max(
        len(unicodedata.normalize("NFD", chr(point))) for point in range(sys.maxunicode + 1)
    )
    assert longest == COMPOSED


@given(st.text("ae\u0300\u0316\u0345\u1f82\uac01\u1100\u1161", max_size=30), st.integers(1, 8))
def test_a_text_is_normalised_up_to_a_length_as_it_is_without_one(text: str, most: int) -> None:
    composed = normalise(text)
    assert normalise_up_to(most, text) == (composed if len(composed) <= most else None)


def test_a_text_that_is_far_too_long_is_not_composed_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vocabularies, "normalise", None)
    assert normalise_up_to(10, "a" + "\u0300" * 500_000) is None


@pytest.mark.parametrize(
    ("alphabet", "is_always_normalized"),
    [
        ("abcéñ", True),
        ("ψабв漢字かな한글", True),
        ("e\u0301", False),  # combining marks
        ("\u093c", False),
        ("\u1161", False),  # Hangul vowels and final consonants
        ("\u11a8", False),
        ("\u0bbe", False),  # vowel signs of combining class 0
        ("\u212a", False),  # never in NFC
    ],
)
def test_an_alphabet_knows_whether_its_texts_are_always_in_nfc(
    alphabet: str, is_always_normalized: bool
) -> None:
    assert Vocabulary(tuple(alphabet)).is_always_normalized == is_always_normalized


def test_every_character_that_composes_with_the_one_before_it_may_change() -> None:
    for composed in map(chr, range(sys.maxunicode + 1)):
        parts = unicodedata.decomposition(composed).split()
        if len(parts) == 2 and not parts[0].startswith("<") and is_normalized(composed):
            assert may_change(chr(int(parts[1], 16)))
    for syllable in map(chr, range(0xAC00, 0xD7A4)):
        assert all(map(may_change, unicodedata.normalize("NFD", syllable)[1:]))
    assert not any(map(may_change, map(chr, range(0xAC00, 0xD7A4))))


ANY_MARK = "aeo\u0301\u0323\u0308\u1100\u1161\u11a8가\u0bc6\u0bbe"


@given(st.text(st.sampled_from(ANY_MARK), max_size=10))
def test_no_text_that_begins_with_one_not_in_nfc_is_in_nfc(text: str) -> None:
    length = normalized_length(text)
    assert [is_normalized(text[:n]) for n in range(len(text) + 1)] == [
        n <= length for n in range(len(text) + 1)
    ]


def test_characters_that_change_nothing_are_told_from_those_that_compose() -> None:
    assert "\u0bbe" in composing_starters()
    assert not {"a", "க", "\u1100", "\u0301"} & composing_starters()


MARKS = st.text(
    st.sampled_from("ae\u0301\u0300\u0316\u0323\u0345\u0344\u0f71\u0f73\u1100\u1161\uac01\u11a8")
)


@given(MARKS)
def test_the_decomposed_form_is_unicodes(text: str) -> None:
    assert text_files.decomposed(text) == unicodedata.normalize("NFD", text)


@given(st.text())
def test_the_decomposed_form_of_any_text_is_unicodes(text: str) -> None:
    assert text_files.decomposed(text) == unicodedata.normalize("NFD", text)


def test_many_marks_on_one_letter_are_composed_at_once() -> None:
    """The library takes minutes for them, since its time grows with their square."""
    above, below = "\u0300" * 200_000, "\u0316" * 200_000
    assert normalise("a" + above + below) == "\u00e0" + below + above[1:]
