"""Texts that take long to work on are refused before anybody does."""

from collections.abc import Callable
from typing import Any

import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.client import Client
from serving.errors import InvalidArgument

MARKS = "a" + "\u0300" * 100_000 + "\u0316" * 100_000
"""Composing it takes most of a minute."""


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client: client.generate(MARKS), "prefix"),
        (lambda client: list(client.stream(MARKS)), "request.prefix"),
        (
            lambda client: client.generate(allowed_characters=MARKS),
            "constraints.allowed_characters",
        ),
        (lambda client: client.generate(suffix=MARKS), "constraints.suffix"),
        (lambda client: client.next_characters(["", MARKS]), "prefixes[1]"),
        (lambda client: client.list_top_strings(MARKS), "prefix"),
    ],
)
def test_a_text_that_takes_long_to_compose_is_refused_before_it_is(
    client: Client, call: Callable[[Client], Any], field: str
) -> None:
    client.timeout = 5
    with pytest.raises(InvalidArgument) as caught:
        call(client)
    assert caught.value.field == field


def test_a_text_that_takes_long_to_compose_is_too_long_to_score(client: Client) -> None:
    client.timeout = 5
    (score,) = client.score([MARKS])
    assert score.status == pb.SCORE_STATUS_TOO_LONG


def test_an_empty_string_may_be_excluded_and_none_may_be_forbidden(client: Client) -> None:
    few = client.generate(
        n=5, max_length=1, unique=True, exclude=["", "a"], allowed_characters="ab"
    )
    assert [sample.text for sample in few.samples] == ["b"]
    with pytest.raises(InvalidArgument, match=r"forbidden_substrings\[1\]: is empty"):
        client.generate(forbidden_substrings=["x", ""])
