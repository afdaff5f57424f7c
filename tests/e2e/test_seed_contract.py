"""The same model, seed and settings give the same strings, byte for byte, however they are asked for.

`make contract` shows it for 100,000 strings of each architecture; here it is 1,500.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.client import Client
from serving.config import ServerConfig
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from serving.repository import load_version
from serving.testing import running
from trainer.models import MODELS

COUNT = int(os.environ.get("CONTRACT_STRINGS", "1500"))
SEED = 20_261_124
UNARY = 1000


def digest(samples: Iterable[pb.Sample]) -> str:
    """Of every byte that callers get."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(sample.SerializeToString(deterministic=True))
    return found.hexdigest()


def streamed(client: Client, model: str, start: int = 0) -> list[pb.Sample]:
    messages = client.stream(n=COUNT, seed=SEED, model=model, start_index=start)
    return [sample for message in messages for sample in message.samples]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS)
def test_strings_are_the_same_however_they_are_asked_for(repository: Path, model: str) -> None:
    address = "127.0.0.1:0"
    with (
        running(ServerConfig(repository, address, model)) as server,
        Client(f"127.0.0.1:{server.port}", timeout=600) as client,
    ):
        whole = streamed(client, model)
        again = streamed(client, model)  # every prefix is known by now
        rest = streamed(client, model, start=COUNT // 3)
        unary = client.generate(n=min(COUNT, UNARY), seed=SEED, model=model).samples
        few = client.generate(n=3, seed=SEED, model=model).samples
    assert len(whole) == COUNT
    assert digest(again) == digest(whole)
    assert digest(rest) == digest(whole[COUNT // 3 :])
    assert digest(unary) == digest(whole[:UNARY])
    assert digest(few) == digest(whole[:3])
    # After a restart, in a replica with other rows, without the tree.
    other = ServerConfig(repository, address, model, max_rows=37, prefix_cache=0)
    with (
        running(other) as server,
        Client(f"127.0.0.1:{server.port}", timeout=600) as client,
    ):
        assert digest(streamed(client, model)) == digest(whole)
    # And by the plain sampler, all rows at once.
    session = load_version(repository / model / "1").session
    parameters = SamplingParameters(seed=SEED)
    plain = generate(session, [], UNARY, parameters, session.manifest.max_length)
    assert [s.text for s in plain[:COUNT]] == [s.text for s in whole[:UNARY]]
