"""Samples of a model in training, each marked by where it stands in the data."""

from collections.abc import Sequence

from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from serving.quoting import shown
from trainer.config import RunConfig
from trainer.data.dataset import Dataset
from trainer.data.split import PARTS
from trainer.models.base import CharModel
from trainer.torch_session import TorchSession, bare_manifest


def mark(text: str, dataset: Dataset) -> str:
    """`train`, `dev` or `test` for a string of that part, `new` for any other."""
    return next((part for part in PARTS if text in dataset.sets[part]), "new")


def draw(
    model: CharModel,
    config: RunConfig,
    n: int,
    parameters: SamplingParameters,
    prefix: str = "",
) -> list[str]:
    """`n` strings from a model; raises UnknownCharacter for a prefix outside the alphabet."""
    session = TorchSession(model, bare_manifest(config, model))
    ids = config.vocabulary.encode(prefix)
    samples = generate(session, ids, n, parameters, max(config.max_length, len(ids)))
    return [sample.text for sample in samples]


def table(texts: Sequence[str], dataset: Dataset) -> list[str]:
    """Lines that show each string with its mark."""
    return [f"  {mark(text, dataset):<5}  {shown(text)}" for text in texts]
