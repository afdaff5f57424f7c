"""The whole way for each architecture: trained 50 steps, exported, served, asked over gRPC."""

import pytest

from serving.client import Client
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from trainer.models import MODELS
from trainer.run import Run
from trainer.torch_session import TorchSession, bare_manifest


@pytest.mark.parametrize("name", MODELS)
def test_the_server_makes_the_strings_that_pytorch_makes(
    client: Client, runs: dict[str, Run], name: str
) -> None:
    config = runs[name].config
    model = runs[name].load_model()
    session = TorchSession(model, bare_manifest(config, model))
    ids = config.vocabulary.encode("ma")
    wanted = generate(session, ids, 50, SamplingParameters(seed=11), config.max_length)
    found = client.generate("ma", 50, model=name, seed=11).samples
    assert [sample.text for sample in found] == [sample.text for sample in wanted]
    assert [s.log_prob for s in found] == pytest.approx([s.log_prob for s in wanted], abs=1e-3)
