"""Messages about models, which are small whatever the models' files say."""

from dataclasses import replace
from pathlib import Path

import pytest

from makemore.v1 import model_service_pb2 as pb
from serving.aliases import MAX_ALIASES
from serving.api.models import MAX_PAGE, model_message
from serving.manifest import MAX_NOTES, PARTS, Manifest
from serving.repository import Model
from serving.testing import FakeSession
from serving.vocabulary import MAX_ALPHABET

DEFAULT_OF_GRPC = 4 * 2**20
"""Bytes that a client takes in one message unless it was told otherwise."""


@pytest.fixture
def largest() -> Model:
    """A model whose every text is as long as it may be."""
    session = FakeSession()
    session.manifest = Manifest(
        name="n" * 63,
        architecture="a" * 64,
        alphabet=tuple(chr(0x20000 + i) for i in range(MAX_ALPHABET)),
        max_length=4096,
        states=session.manifest.states,
        metrics={
            part: {"nll": 1e9, "characters": 2**63 - 1, "strings": 2**63 - 1} for part in PARTS
        },
        training={"note": "x" * (MAX_NOTES - 100)},
    )
    aliases = tuple(f"a{i:062}" for i in range(MAX_ALIASES))
    return Model(Path("x"), "n" * 63, 999_999_999, "f" * 64, session, aliases=aliases)


def test_a_page_of_the_largest_models_fits_into_what_a_client_takes(largest: Model) -> None:
    page = pb.ListModelsResponse(
        models=[model_message(replace(largest, version=i)) for i in range(1, MAX_PAGE + 1)],
        next_page_token=largest.full_name,
    )
    assert 2**20 < page.ByteSize() < DEFAULT_OF_GRPC
