"""The plain sampler: all drafts of one request in step until all have ended.

The readable truth that the engine is compared with. The trainer draws its previews with it.
"""

from collections.abc import Sequence

import numpy as np

from serving.constraints.masks import Bounds
from serving.engine import philox, sampling
from serving.engine.job import FinishReason, Sample
from serving.engine.sampling import SamplingParameters, Settings
from serving.engine.stepping import StepSession, initial_states
from serving.vocabulary import BOUNDARY, is_normalized

MAX_ATTEMPTS = 100
"""Attempts at one string of `generate`."""


def generate(
    session: StepSession, prefix: list[int], n: int, parameters: SamplingParameters, max_length: int
) -> list[Sample]:
    """`n` strings after a prefix of token ids; `max_length` counts the prefix.

    Strings that are not in NFC are drawn again, and left out after MAX_ATTEMPTS.
    """
    found: list[Sample] = []
    missing = list(range(n))
    for attempt in range(MAX_ATTEMPTS):
        drawn = drafts(session, prefix, [(i, attempt) for i in missing], parameters, max_length)
        found += (sample for sample in drawn if is_normalized(sample.text))
        missing = [sample.index for sample in drawn if not is_normalized(sample.text)]
        if not missing:
            break
    return sorted(found, key=lambda sample: sample.index)


def drafts(
    session: StepSession,
    prefix: list[int],
    wanted: Sequence[tuple[int, int]],
    parameters: SamplingParameters,
    max_length: int,
    bounds: Bounds | None = None,
) -> list[Sample]:
    """The drafts of these indices and attempts."""
    n = len(wanted)
    states = initial_states(session.manifest.states, n)
    for token in [BOUNDARY, *prefix]:
        logits, states = session.step(np.full(n, token), states)
    texts = [list(prefix) for _ in range(n)]
    sums = np.zeros((3, n))
    finish: list[FinishReason | None] = [None] * n
    for step in range(max_length - len(prefix) + 1):
        mask = None
        if bounds is not None:
            lengths = np.array([len(text) for text in texts])
            mask = bounds.allowed(lengths, np.array([bounds.automaton.run(t) for t in texts]))
        uniform = _uniforms(parameters.seed, wanted, step)
        drawn = sampling.draw(logits, Settings.of(parameters, n), uniform, mask)
        for row in (row for row in range(n) if finish[row] is None):
            if drawn.ids[row] == BOUNDARY:
                finish[row] = FinishReason.END
            elif len(texts[row]) == max_length:
                finish[row] = FinishReason.MAX_LENGTH
                continue
            else:
                texts[row].append(int(drawn.ids[row]))
            sums[:, row] += [column[row] for column in drawn[1:]]
        if None not in finish:
            break
        logits, states = session.step(drawn.ids, states)
    return [
        Sample(
            session.manifest.vocabulary.decode(text),
            index,
            reason,
            log_prob=sum_[0],
            sampling_log_prob=sum_[1],
            log_weight=sum_[2],
            attempts=attempt + 1,
        )
        for text, (index, attempt), reason, sum_ in zip(
            texts, wanted, finish, sums.T.tolist(), strict=True
        )
        if reason is not None
    ]


def _uniforms(seed: int, wanted: Sequence[tuple[int, int]], step: int) -> sampling.Float64:
    index, attempt = np.array(wanted, np.uint64).reshape(-1, 2).T
    zeros = np.zeros(len(wanted), np.uint64)
    return philox.uniforms(zeros + np.uint64(seed), index, attempt, zeros + np.uint64(step))
