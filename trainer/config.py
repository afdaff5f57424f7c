"""The configuration of a run: checked when built, kept as `config.json`, rebuilt from it."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any, Self

import torch

from serving import checks
from serving.errors import InvalidArgument
from serving.vocabulary import Vocabulary
from trainer.errors import RunError
from trainer.models import architecture
from trainer.models.base import CharModel
from trainer.optimizers import OPTIMIZERS
from trainer.schedule import SCHEDULES

FORMAT = 1
INITS = ("scaled", "naive")
BACKWARDS = ("autograd", "manual")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is fitted. A step is one batch.

    Attributes:
        steps: how many at most.
        batch_size: strings in a batch.
        pool: batches' worth of shuffled strings that are sorted by length together, so that there is
            little padding; 1 mixes lengths as chance has it.
        optimizer: `adamw`, or `muon` for the matrices between two layers and AdamW for the rest.
        learning_rate: at its peak.
        warmup: steps in which the rate rises from 0.
        weight_decay: on matrices alone.
        beta2: AdamW's decay of the second moment.
        clip: the largest norm of the whole gradient.
        average: decay of the moving average of weights that is evaluated and kept; 0 takes the
            weights as they are (Polyak and Juditsky 1992).
        evaluate_every: steps between evaluations on the whole dev part, each with a checkpoint.
        patience: evaluations without a better dev NLL before training stops; 0 never stops early.
        sample_every: evaluations between two shows of ten samples; 0 shows none.
        seed: of initialisation, dropout and the order of batches.
        threads: of torch; 0 leaves it to torch. Another number may give other last bits.
        schedule: of the rate after the warm-up: `cosine`, `linear`, `step` or `constant`.
        init: `scaled` starts with the architecture's own weights, `naive` with weights of deviation 1,
            for seeing the difference.
        backward: `autograd`, or `manual` for the gradients of an MLP by hand, in one process.
        device: `cpu` or `cuda`; on a GPU the products are in bfloat16.
    """

    steps: int = 4000
    batch_size: int = 256
    pool: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 4e-3
    warmup: int = 200
    weight_decay: float = 0.1
    beta2: float = 0.99
    clip: float = 1.0
    average: float = 0.998
    evaluate_every: int = 200
    patience: int = 10
    sample_every: int = 5
    seed: int = 1
    threads: int = 0
    schedule: str = "cosine"
    init: str = "scaled"
    backward: str = "autograd"
    device: str = "cpu"

    @property
    def is_mixed(self) -> bool:
        """Whether products are computed in bfloat16."""
        return self.device == "cuda"

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, 1, 10**8)
        checks.whole("batch_size", self.batch_size, 1, 10**6)
        checks.whole("pool", self.pool, 1, 10**6)
        checks.real("learning_rate", self.learning_rate, 1e-9, 10.0)
        checks.whole("warmup", self.warmup, 0, 10**8)
        checks.real("weight_decay", self.weight_decay, 0.0, 10.0)
        checks.real("beta2", self.beta2, 0.0, 0.99999)
        checks.real("clip", self.clip, 1e-6, 1e6)
        checks.real("average", self.average, 0.0, 0.99999)
        checks.whole("evaluate_every", self.evaluate_every, 1, 10**8)
        checks.whole("patience", self.patience, 0, 10**8)
        checks.whole("sample_every", self.sample_every, 0, 10**8)
        checks.whole("seed", self.seed, 0, 2**32 - 1)
        checks.whole("threads", self.threads, 0, 1024)
        checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.one_of("init", self.init, INITS)
        checks.one_of("backward", self.backward, BACKWARDS)
        checks.one_of("device", self.device, DEVICES)


def versions() -> dict[str, str]:
    """What the run was made with."""
    packages = {name: version(name) for name in ("makemore", "torch", "numpy")}
    return {"python": platform.python_version(), **packages}


@dataclass(frozen=True)
class RunConfig:
    """All that it takes to build the model of a run and to train it the same way again."""

    architecture: str
    model: Any
    training: TrainingConfig
    alphabet: tuple[str, ...]
    max_length: int
    dataset: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=versions)

    @property
    def vocabulary(self) -> Vocabulary:
        """The alphabet with its encoding."""
        return Vocabulary(self.alphabet)

    def build_model(self) -> CharModel:
        """A new model with the first weights that its seed gives."""
        torch.manual_seed(self.training.seed)
        build = architecture(self.architecture)
        model = build(self.model, len(self.vocabulary), self.max_length)
        if self.training.init == "naive":
            model.initialise_naively()
        return model

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The configuration that `to_dict` gave; raises RunError for another format."""
        if value.get("format") != FORMAT:
            raise RunError(
                f"format {value.get('format')} is not {FORMAT}, which this version reads"
            )
        return cls(
            architecture=value["architecture"],
            model=architecture(value["architecture"]).Config(**value["model"]),
            training=TrainingConfig(**value["training"]),
            alphabet=tuple(value["alphabet"]),
            max_length=value["max_length"],
            dataset=value["dataset"],
            versions=value["versions"],
        )


def knobs_of(name: str) -> list[str]:
    """The names of an architecture's knobs."""
    return [knob.name for knob in fields(architecture(name).Config)]


def resolve(
    name: str, model_flags: Mapping[str, Any], training_flags: Mapping[str, Any]
) -> tuple[Any, TrainingConfig]:
    """The model's and the training's configuration from what was given; the rest are defaults.

    Raises:
        InvalidArgument: the architecture is unknown, has no such knob, or a value is out of range.
    """
    found, knobs = architecture(name), knobs_of(name)
    for flag in model_flags:
        if flag not in knobs:
            raise InvalidArgument(flag, f"'{name}' has no such knob; it has {', '.join(knobs)}")
    return (
        found.Config(**model_flags),
        TrainingConfig(**{**found.training_defaults, **training_flags}),
    )
