"""Score and NextCharacters: from texts to the engine's Reads, and from what it reads to messages."""

import math
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from makemore.v1 import generation_service_pb2 as pb
from serving.constraints.taken import Known
from serving.engine import sampling
from serving.engine.job import IDS, Ids, Reading
from serving.manifest import Manifest
from serving.vocabulary import normalise, normalise_up_to

PART = 2**20
"""Bytes of log-probabilities and logits that one Read may come to."""
FIELDS = 512
"""Characters of distributions that are built in one step."""
SCORES = 32
"""Scores that are built in one step."""
SCORED = 5
"""Microseconds that it takes to build a score, about."""


def encoded(text: str, manifest: Manifest) -> Ids | pb.TextScore:
    """Token ids of a text, or why it cannot be scored."""
    composed = normalise_up_to(manifest.max_length, text)
    if composed is None:
        return pb.TextScore(status=pb.SCORE_STATUS_TOO_LONG)
    unknown = manifest.vocabulary.unknown(composed)
    if unknown:
        return pb.TextScore(status=pb.SCORE_STATUS_UNKNOWN_CHARACTER, unknown_positions=unknown)
    return array(IDS, manifest.vocabulary.encode(composed))


def parts(lengths: Sequence[int], each: int) -> Iterator[slice]:
    """Texts in groups whose readings take at most PART bytes, unless a group is of one text.

    Args:
        lengths: of the texts.
        each: bytes that a text takes beside its log-probabilities, of which all have as many as the longest.
    """
    begin = longest = 0
    for place, length in enumerate(lengths):
        grown = max(longest, length)
        if place > begin and (place - begin + 1) * (each + 8 * (grown + 1)) > PART:
            yield slice(begin, place)
            begin, grown = place, length
        longest = grown
    yield slice(begin, len(lengths))


def score_parts(
    texts: Sequence[str],
    found: Sequence[Ids | pb.TextScore],
    readings: Sequence[Reading],
    manifest: Manifest,
    known: Known | None,
    characters: bool,
) -> Iterator[bytes]:
    """Scores, as parts of a serialized ScoreResponse.

    Args:
        texts: as they came.
        found: their `encoded`.
        readings: of those that can be scored, in their order.
        manifest: of the model.
        known: the training part, if there is a list of it.
        characters: whether each character's log-probability is wanted.
    """
    read = iter(readings)
    for begin in range(0, len(texts), SCORES):
        part = slice(begin, begin + SCORES)
        yield pb.ScoreResponse(
            scores=[
                one
                if isinstance(one, pb.TextScore)
                else score_message(text, next(read), manifest, known, characters)
                for text, one in zip(texts[part], found[part], strict=True)
            ]
        ).SerializeToString()


def score_message(
    text: str, reading: Reading, manifest: Manifest, known: Known | None, characters: bool
) -> pb.TextScore:
    """How likely a text is."""
    log_probs = reading.log_probs.tolist()
    log_prob = math.fsum(log_probs)
    table = manifest.held_out
    return pb.TextScore(
        status=pb.SCORE_STATUS_OK,
        log_prob=log_prob,
        bits_per_character=-log_prob / len(log_probs) / math.log(2),
        percentile=table.percentile(len(log_probs) - 1, log_prob) if table else None,
        in_training=None if known is None else normalise(text) in known,
        characters=log_probs if characters else (),
    )


def distribution_parts(
    readings: Sequence[Reading], alphabet: Sequence[str], top: int
) -> Iterator[bytes]:
    """What may follow each prefix, the most likely first, as parts of a serialized NextCharactersResponse."""
    named = ("", *alphabet)
    told = min(top or len(named), len(named))
    count = max(FIELDS // told, 1)
    for begin in range(0, len(readings), count):
        logits = np.stack([reading.logits for reading in readings[begin : begin + count]])  # [B, V]
        raw = logits.astype(np.float64)
        log_probs = raw - sampling.log_partition(raw)[:, None]
        order = np.argsort(-log_probs, axis=1, kind="stable")[:, :told]
        ranked = np.take_along_axis(log_probs, order, axis=1)
        response = pb.NextCharactersResponse()
        for tokens, values in zip(order.tolist(), ranked.tolist(), strict=True):
            add = response.distributions.add().characters.add
            for token, value in zip(tokens, values, strict=True):
                one = add()  # half as long as with the fields for arguments
                one.character = named[token]
                one.log_prob = value
        yield response.SerializeToString()
