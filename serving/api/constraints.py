"""From a request's Constraints to what the engine enforces and what it throws away."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from makemore.v1 import generation_service_pb2 as pb
from serving import checks
from serving.api.bounding import Bounding
from serving.api.loop_time import BYTES, LoopTime
from serving.api.request import At, check_count, check_list, check_text, max_length_of
from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.constraints.taken import Known
from serving.engine.job import Selection
from serving.errors import FailedPrecondition, InvalidArgument
from serving.manifest import Manifest
from serving.vocabulary import normalise

DEFAULT_ATTEMPTS = 100
MAX_ATTEMPTS = 10_000
MAX_EXCLUDED = (10_000, 128)
MAX_FORBIDDEN = (1_000, 64)
MAX_PATTERN = 256
MAX_PART = 64
MAX_ALLOWED = 4096


@dataclass(frozen=True)
class Resolved:
    """Constraints with every default filled in.

    Attributes:
        min_length: of a string, prefix included.
        max_length: likewise.
        rules: about characters.
        bounds: rules, lengths and the operator's list together; None where they forbid nothing.
        is_exact: they are kept by drawing again.
        selection: what else is thrown away.
    """

    min_length: int
    max_length: int
    rules: Rules
    bounds: Bounds | None
    is_exact: bool
    selection: Selection


def rules_of(asked: pb.Constraints) -> Rules:
    """The caller's rules about characters; raises InvalidArgument."""
    with At("constraints.{}"):
        check_list("forbidden_substrings", asked.forbidden_substrings, *MAX_FORBIDDEN)
        if "" in asked.forbidden_substrings:  # which every string has
            place = list(asked.forbidden_substrings).index("")
            raise InvalidArgument(f"forbidden_substrings[{place}]", "is empty")
        check_text("pattern", asked.pattern, MAX_PATTERN)
        check_text("suffix", asked.suffix, MAX_PART)
        check_text("contains", asked.contains, MAX_PART)
        check_text("allowed_characters", asked.allowed_characters, MAX_ALLOWED)
    return Rules(
        pattern=normalise(asked.pattern),
        suffix=normalise(asked.suffix),
        contains=normalise(asked.contains),
        # Combining marks first, so that the text stays what it is when it is normalised again.
        allowed_characters="".join(
            sorted(
                set(normalise(asked.allowed_characters)),
                key=lambda character: (not unicodedata.combining(character), character),
            )
        ),
        forbidden_substrings=tuple(map(normalise, asked.forbidden_substrings)),
    )


async def resolve(
    asked: pb.Constraints,
    manifest: Manifest,
    known: Known | None,
    prefix: tuple[int, ...],
    deadline: float | None,
    bounding: Bounding,
    loop_time: LoopTime,
) -> Resolved:
    """Constraints as the engine takes them; what takes long is done beside the event loop, or in slices.

    Raises:
        InvalidArgument: a field is out of its range, or no string can keep to all of them.
        Exhausted, DeadlineExceeded: see Bounding.
        FailedPrecondition: the model came without a list of its training part.
    """
    normalized_only = not manifest.vocabulary.is_always_normalized
    is_open = bounding.forbidden.automaton(manifest.alphabet) is None
    if is_open and not asked.ByteSize():
        return unconstrained(manifest.max_length, normalized_only)
    max_length = max_length_of(asked, len(prefix), manifest.max_length)
    with At("constraints.{}"):
        checks.whole("min_length", asked.min_length, 0, max_length)
    size = asked.ByteSize() / BYTES
    excluded = frozenset(await loop_time.run(excluded_of(asked), size + len(asked.exclude)))
    rules = await loop_time.call(partial(rules_of, asked), size)
    bounds = None
    if rules != Rules() or asked.min_length > len(prefix) or not is_open:
        lengths = asked.min_length, max_length
        bounds = await bounding.bounds(manifest.alphabet, rules, lengths, prefix, deadline)
    selection = selection_of(
        asked, known, bounds if asked.exact else None, normalized_only, excluded
    )
    return Resolved(asked.min_length, max_length, rules, bounds, asked.exact, selection)


@lru_cache(maxsize=256)
def unconstrained(max_length: int, normalized_only: bool) -> Resolved:
    """Constraints of a request without any."""
    selection = selection_of(pb.Constraints(), None, None, normalized_only)
    return Resolved(0, max_length, Rules(), None, False, selection)


def excluded_of(asked: pb.Constraints) -> Iterator[str]:
    """The strings that are excluded, one step for each; raises InvalidArgument."""
    most, longest = MAX_EXCLUDED
    with At("constraints.{}"):
        check_count("exclude", asked.exclude, most)
        for place, text in enumerate(asked.exclude):
            check_text(f"exclude[{place}]", text, longest)
            yield normalise(text)


def selection_of(
    asked: pb.Constraints,
    known: Known | None,
    accepted: Bounds | None,
    normalized_only: bool,
    excluded: frozenset[str] = frozenset(),
) -> Selection:
    """Which strings are thrown away; raises InvalidArgument and FailedPrecondition."""
    with At("constraints.{}"):
        if asked.HasField("max_attempts_per_sample"):
            checks.whole("max_attempts_per_sample", asked.max_attempts_per_sample, 1, MAX_ATTEMPTS)
        for name, enum in (("novelty", pb.Novelty), ("length_policy", pb.LengthPolicy)):
            if getattr(asked, name) not in enum.values():
                raise InvalidArgument(name, f"{getattr(asked, name)} is none of its values")
    is_new = asked.novelty == pb.NOVELTY_NOT_IN_TRAINING
    if is_new and known is None:
        raise FailedPrecondition("the model came without a list of its training part (known.u64)")
    return Selection(
        is_unique=asked.unique,
        known=known if is_new else None,
        excluded=excluded,
        complete_only=asked.length_policy == pb.LENGTH_POLICY_COMPLETE_ONLY,
        accepted=accepted,
        normalized_only=normalized_only,
        max_attempts=asked.max_attempts_per_sample or DEFAULT_ATTEMPTS,
    )


def settings_of(asked: pb.Constraints, resolved: Resolved) -> pb.Constraints:
    """The constraints that a caller may send again; lists are left out."""
    rules, selection = resolved.rules, resolved.selection
    return pb.Constraints(
        min_length=resolved.min_length,
        max_length=resolved.max_length,
        length_policy=asked.length_policy or pb.LENGTH_POLICY_TRUNCATE,
        unique=selection.is_unique,
        novelty=asked.novelty or pb.NOVELTY_ANY,
        suffix=rules.suffix,
        contains=rules.contains,
        pattern=rules.pattern,
        allowed_characters=rules.allowed_characters,
        exact=resolved.is_exact,
        max_attempts_per_sample=selection.max_attempts,
    )
