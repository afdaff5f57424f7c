"""Requests of the client are built, checked and split so that whatever it accepts gets through."""

import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.errors import InvalidArgument, TooLarge
from serving.options import MAX_ANSWER, MAX_REQUEST
from serving.requests import answers_in_chunks, build, check_size


class Asked:
    """Takes chunks as a server would that refuses large ones."""

    def __init__(self, request: int = MAX_REQUEST, most: int = 10**9) -> None:
        self.request = request
        self.most = most
        self.chunks: list[list[str]] = []

    def __call__(self, chunk: list[str]) -> list[str]:
        if pb.ScoreRequest(texts=chunk).ByteSize() > self.request or len(chunk) > self.most:
            raise TooLarge("request", "has too many bytes")
        self.chunks.append(chunk)
        return [text.upper() for text in chunk]


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["a"],
        ["é" * 300] * 4096,
        ["\U0001f600" * 100] * 5000,
        ["a"] * 4097,
        ["a" * (MAX_REQUEST // 2)] * 3,
        ["a", "b" * (MAX_REQUEST - 600), "c"],
        ["a" * (MAX_REQUEST - 4)],
        [""] * 9000,
    ],
    ids=["none", "one", "wide", "widest", "many", "halves", "one long", "longest", "empty"],
)
def test_every_chunk_fits_into_a_request(texts: list[str]) -> None:
    asked = Asked()
    assert list(answers_in_chunks("texts", iter(texts), 4096, asked)) == [t.upper() for t in texts]
    assert max(map(len, asked.chunks), default=0) <= 4096
    fewest = len(texts) / 4096 + sum(len(text.encode()) for text in texts) / MAX_REQUEST
    assert len(asked.chunks) <= 2 * fewest + 1


def test_every_chunk_has_an_answer_that_fits() -> None:
    asked = Asked()
    texts = ["a"] * 1000
    assert (
        len(list(answers_in_chunks("texts", texts, 4096, asked, lambda t: MAX_ANSWER // 10)))
        == 1000
    )
    assert {len(chunk) for chunk in asked.chunks} == {9, 1}
    asked = Asked()
    list(answers_in_chunks("texts", texts, 4096, asked, lambda text: 2 * MAX_ANSWER))
    assert {len(chunk) for chunk in asked.chunks} == {1}


@pytest.mark.parametrize("most", [1, 3, 100])
def test_a_chunk_is_halved_whose_answer_is_too_large(most: int) -> None:
    asked = Asked(most=most)
    texts = [str(number) for number in range(999)]
    assert list(answers_in_chunks("texts", texts, 512, asked)) == texts
    assert len(asked.chunks) <= 2 * len(texts) // most + 1


def test_a_string_that_fits_nowhere_is_named_by_its_place_among_all() -> None:
    asked = Asked(request=100)
    texts = [*["a"] * 50, "b" * 101, "c"]
    with pytest.raises(TooLarge, match=r"texts\[50\]: has too many bytes"):
        list(answers_in_chunks("texts", texts, 20, asked))


def test_an_error_about_a_string_of_a_later_chunk_names_its_place_among_all() -> None:
    def ask(chunk: list[str]) -> list[str]:
        if "bad" in chunk:
            raise InvalidArgument(f"texts[{chunk.index('bad')}]", "is bad")
        return chunk

    with pytest.raises(InvalidArgument, match=r"^texts\[25\]: is bad"):
        list(answers_in_chunks("texts", [*["a"] * 25, "bad"], 10, ask))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("abc", "texts: must be a list of strings, not str"),
        (b"abc", "texts: must be a list of strings, not bytes"),
        (None, "texts: must be a list of strings, not NoneType"),
        (5, "texts: must be a list of strings, not int"),
        (["a", 5], r"texts\[1\]: must be a string, not int"),
        (["a", b"b"], r"texts\[1\]: must be a string, not bytes"),
        (["a", "\ud800"], r"texts\[1\]: holds half a surrogate pair"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        list(answers_in_chunks("texts", texts, 10, Asked()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": "\ud800"}, "pattern: holds half a surrogate pair"),
        ({"exclude": ["a", "\udfff"]}, r"exclude\[1\]: holds half a surrogate pair"),
        ({"exclude": ["a", None]}, r"exclude\[1\]: must be a string, not NoneType"),
        ({"exclude": "abc"}, "exclude: must be a list of strings, not one string"),
        ({"forbidden_substrings": b"abc"}, "forbidden_substrings: must be a list of strings"),
        ({"exclude": 5}, "exclude: "),
        ({"suffix": 5}, "suffix: must be a string, not int"),
        ({"min_length": 2**31}, "min_length: "),
        ({"min_length": 1.5}, "min_length: "),
        ({"unique": "yes"}, "unique: "),
        ({"novelty": "SOME"}, "novelty: "),
        ({"tempo": 5}, "tempo: is no field of the message Constraints"),
    ],
)
def test_a_value_that_no_field_can_hold_is_named_by_its_field(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        build(pb.Constraints, max_length=5, max_attempts_per_sample=None, **fields)


def test_a_request_that_is_too_large_says_how_large_and_where() -> None:
    request = pb.GenerateRequest(constraints=pb.Constraints(exclude=["a" * 100] * 11_000))
    check_size(pb.GenerateRequest(prefix="a" * (MAX_REQUEST - 4)))
    with pytest.raises(
        TooLarge,
        match=r"request: has 1,122,004 bytes, most of them in constraints\.exclude; at most 1,048,576",
    ):
        check_size(request)
