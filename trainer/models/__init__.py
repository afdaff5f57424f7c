"""The architectures by name. A new one is one file here and one line in `MODELS`."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from serving.errors import InvalidArgument

if TYPE_CHECKING:
    from trainer.models.base import CharModel


@dataclass(frozen=True)
class Architecture:
    """Where an architecture is, and a line about it; nothing is imported until it is used."""

    target: str
    summary: str

    def load(self) -> "type[CharModel]":
        """The class."""
        module, name = self.target.split(":")
        found: type[CharModel] = getattr(import_module(module), name)
        return found


MODELS = {
    "bigram": Architecture(
        "trainer.models.bigram:Bigram", "counts of character pairs, smoothed; no gradient"
    ),
    "lstm": Architecture(
        "trainer.models.lstm:LSTM", "long short-term memory (Hochreiter and Schmidhuber 1997)"
    ),
}


def architecture(name: str) -> "type[CharModel]":
    """The class registered under a name; raises InvalidArgument."""
    if name not in MODELS:
        raise InvalidArgument("model", f"'{name}' is not one of {', '.join(MODELS)}")
    return MODELS[name].load()
