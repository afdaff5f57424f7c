"""What every architecture is: a parallel forward for training, a step for the step graph.

Letters in shape comments: B strings, T characters, V tokens, E embedding width, H hidden width.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from serving.manifest import StateSpec
from serving.vocabulary import BOUNDARY

if TYPE_CHECKING:
    import onnx

States = tuple[Tensor, ...]

FUSED = "fused"
STANDARD = "standard"
OPERATORS = (FUSED, STANDARD)


class ModelConfig(Protocol):
    """A frozen dataclass of an architecture's knobs, checked when built."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class CharModel(nn.Module):
    """A next-character model.

    Attributes:
        Config: the dataclass of its knobs.
        training_defaults: values of TrainingConfig that suit it better than the general ones.
        counted: its parameters come from `fit_counts`, not from gradients.
        operators: what its step graph is made of: `fused` takes onnxruntime's own where they are faster on a
            CPU, `standard` takes those of ONNX alone, which other devices have too.
    """

    Config: ClassVar[type[Any]]
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    counted: ClassVar[bool] = False
    operators: str = FUSED

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next character at every position: [B, T, V] from ids [B, T]."""
        raise NotImplementedError

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """Logits [B, V] after one more character, ids [B], and the states after it."""
        raise NotImplementedError

    def state_specs(self) -> tuple[StateSpec, ...]:
        """The states that `step` takes and gives, in that order."""
        raise NotImplementedError

    def fit_counts(self, tokens: Tensor, targets: Tensor) -> None:
        """Set the parameters from every pair of the training part, [N] each; for counted models."""
        raise NotImplementedError

    def initial_states(self, rows: int) -> States:
        """States before the first character: zeros."""
        return tuple(
            torch.zeros((rows, *spec.shape), dtype=getattr(torch, spec.dtype))
            for spec in self.state_specs()
        )

    @torch.no_grad()
    def initialise_naively(self) -> None:
        """Draw every matrix from a standard normal, as one would who has not thought of it."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                parameter.normal_()

    def for_export(self) -> "CharModel":
        """The same function with what training alone needs folded away; its `step` is traced."""
        return self

    def step_graph(self) -> "onnx.ModelProto | None":
        """`step` as a graph made by hand, where that is faster; None to have it traced.

        Inputs and outputs are those of `state_specs`. The export's gate compares it with `forward`.
        """
        return None

    def watched(self) -> Mapping[str, nn.Module]:
        """Modules whose outputs show how the network is: by a name for people."""
        return {}

    def activations(self, tokens: Tensor) -> dict[str, Tensor]:
        """What the watched modules put out for strings [B, T], padding left out: [N, units] each."""
        real = is_real(tokens)
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, arguments: object, output: Tensor) -> None:
                found[name] = output[real] if output.shape[:2] == real.shape else output

            return hook

        hooks = [m.register_forward_hook(keep(name)) for name, m in self.watched().items()]
        self(tokens)
        for hook in hooks:
            hook.remove()
        return found

    @property
    def sees(self) -> int | None:
        """How many characters back it looks, the boundary counted; None for all."""
        return None

    def num_parameters(self) -> int:
        """How many numbers training sets."""
        return sum(parameter.numel() for parameter in self.parameters())


def is_real(tokens: Tensor) -> Tensor:
    """Which of the tokens [B, T] belong to a string: a boundary after its start is padding."""
    real = tokens != BOUNDARY
    real[:, 0] = True
    return real


def state(
    name: str,
    *shape: int,
    dtype: str = "float32",
    in_place: bool = False,
    grows: int | None = None,
) -> StateSpec:
    """A state whose tensors are named after it."""
    return StateSpec(name, f"{name}_in", f"{name}_out", dtype, shape, in_place, grows)
