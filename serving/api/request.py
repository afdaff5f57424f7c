"""From a request's messages to checked values: every check of what a caller sent, before any work is done.

Knows the messages, but neither gRPC nor the engine.
"""

from collections.abc import Sequence

from makemore.v1 import generation_service_pb2 as pb
from serving import checks
from serving.engine.sampling import SamplingParameters, random_seed
from serving.errors import InvalidArgument
from serving.manifest import Manifest
from serving.vocabulary import normalise_up_to


class At:
    """Names the field of an InvalidArgument as the caller knows it: `{}` stands for its own name."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, InvalidArgument):
            raise InvalidArgument(self._path.format(error.field), error.description) from None


def encode_prefix(text: str, manifest: Manifest, field: str = "prefix") -> list[int]:
    """Token ids of a prefix; raises InvalidArgument."""
    prefix = normalise_up_to(manifest.max_length, text)
    if prefix is None:
        raise InvalidArgument(
            field,
            f"has more than {manifest.max_length:,} characters, and the model makes no longer strings",
        )
    with At(field):
        return manifest.vocabulary.encode(prefix)


def parameters_of(asked: pb.Sampling, recommended: SamplingParameters) -> SamplingParameters:
    """What is set, else what the model recommends; the seed is random unless set."""

    def value(name: str) -> float:
        found: float = getattr(asked if asked.HasField(name) else recommended, name)  # type: ignore[arg-type]
        return found

    with At("sampling.{}"):
        return SamplingParameters(
            temperature=value("temperature"),
            top_k=int(value("top_k")),
            seed=asked.seed if asked.HasField("seed") else random_seed(),
            top_p=value("top_p"),
            min_p=value("min_p"),
        )


def max_length_of(asked: pb.Constraints, prefix: int, longest: int) -> int:
    """The longest string, prefix included."""
    if not asked.HasField("max_length"):
        return longest
    with At("constraints.{}"):
        checks.whole("max_length", asked.max_length, max(prefix, 1), longest)
    return asked.max_length


def check_list(field: str, values: Sequence[str], most: int, longest: int) -> None:
    """Raise InvalidArgument for too many strings, or for one that is too long."""
    check_count(field, values, most)
    for place, value in enumerate(values):
        check_text(f"{field}[{place}]", value, longest)


def check_count(field: str, values: Sequence[str], most: int) -> None:
    """Raise InvalidArgument for too many strings."""
    if len(values) > most:
        raise InvalidArgument(field, f"has {len(values):,} strings; at most {most:,} are taken")


def check_text(field: str, value: str, longest: int) -> None:
    """Raise InvalidArgument for a string that is too long."""
    if len(value) > longest:
        raise InvalidArgument(field, f"has {len(value):,} characters; at most {longest} are taken")
