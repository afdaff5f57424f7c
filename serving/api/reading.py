"""Score and NextCharacters: from texts to the engine's Read, and from what it reads to messages."""

import math
from collections.abc import Sequence

import numpy as np

from makemore.v1 import generation_service_pb2 as pb
from serving.constraints.taken import Known
from serving.engine import sampling
from serving.engine.job import Reading
from serving.manifest import Manifest
from serving.vocabulary import BOUNDARY, normalise, normalise_up_to


def encoded(text: str, manifest: Manifest) -> list[int] | pb.TextScore:
    """Token ids of a text, or why it cannot be scored."""
    composed = normalise_up_to(manifest.max_length, text)
    if composed is None:
        return pb.TextScore(status=pb.SCORE_STATUS_TOO_LONG)
    unknown = manifest.vocabulary.unknown(composed)
    if unknown:
        return pb.TextScore(status=pb.SCORE_STATUS_UNKNOWN_CHARACTER, unknown_positions=unknown)
    return manifest.vocabulary.encode(composed)


def score_message(
    text: str, reading: Reading, manifest: Manifest, known: Known | None, characters: bool
) -> pb.TextScore:
    """How likely a text is."""
    log_prob = math.fsum(reading.log_probs)
    table = manifest.held_out
    return pb.TextScore(
        status=pb.SCORE_STATUS_OK,
        log_prob=log_prob,
        bits_per_character=-log_prob / len(reading.log_probs) / math.log(2),
        percentile=table.percentile(len(reading.log_probs) - 1, log_prob) if table else None,
        in_training=None if known is None else normalise(text) in known,
        characters=reading.log_probs if characters else (),
    )


def distribution_message(
    reading: Reading, alphabet: Sequence[str], top: int
) -> pb.NextDistribution:
    """What may follow a prefix, the most likely first."""
    logits = reading.logits.astype(np.float64)
    log_probs = logits - sampling.log_partition(logits[None])[0]  # [V]
    order = np.argsort(-log_probs, kind="stable")[: top or None]
    return pb.NextDistribution(
        characters=[
            pb.NextCharacter(
                character="" if token == BOUNDARY else alphabet[token - 1],
                log_prob=log_probs[token],
            )
            for token in order.tolist()
        ]
    )
