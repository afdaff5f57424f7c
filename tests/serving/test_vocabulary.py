import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidArgument
from serving.vocabulary import UnknownCharacter, Vocabulary, normalise

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(normalise)


@given(st.lists(texts, min_size=1))
def test_encoding_and_decoding_gives_the_text_back(strings: list[str]) -> None:
    vocabulary = Vocabulary.of(strings)
    for string in strings:
        ids = vocabulary.encode(string)
        assert 0 not in ids
        assert vocabulary.decode(ids) == string


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
