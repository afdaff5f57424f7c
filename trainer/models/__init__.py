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
    "bigram-neural": Architecture(
        "trainer.models.bigram_neural:BigramNeural", "the same table, found by gradient descent"
    ),
    "bow": Architecture(
        "trainer.models.bow:BagOfWords", "the mean of all characters so far (Mikolov et al. 2013)"
    ),
    "mlp": Architecture("trainer.models.mlp:MLP", "a window of characters (Bengio et al. 2003)"),
    "cnn": Architecture(
        "trainer.models.cnn:CNN", "WaveNet: dilated causal convolutions (van den Oord et al. 2016)"
    ),
    "rnn": Architecture("trainer.models.rnn:RNN", "recurrent network (Mikolov et al. 2010)"),
    "gru": Architecture("trainer.models.gru:GRU", "gated recurrent units (Cho et al. 2014)"),
    "lstm": Architecture(
        "trainer.models.lstm:LSTM", "long short-term memory (Hochreiter and Schmidhuber 1997)"
    ),
    "transformer": Architecture(
        "trainer.models.transformer:Transformer", "GPT-2's block (Radford et al. 2019)"
    ),
    "transformer-modern": Architecture(
        "trainer.models.transformer_modern:TransformerModern",
        "rotary positions, RMS norms, SwiGLU (Touvron et al. 2023)",
    ),
}


def architecture(name: str) -> "type[CharModel]":
    """The class registered under a name; raises InvalidArgument."""
    if name not in MODELS:
        raise InvalidArgument("model", f"'{name}' is not one of {', '.join(MODELS)}")
    return MODELS[name].load()
