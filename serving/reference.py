"""The plain sampler: all rows of one request in step until all have ended.

The readable truth that the engine is compared with. The trainer draws its previews with it.
"""

import numpy as np

from serving import philox, sampling
from serving.job import FinishReason, Sample
from serving.sampling import SamplingParameters
from serving.session import StepSession, initial_states
from serving.vocabulary import BOUNDARY


def generate(
    session: StepSession, prefix: list[int], n: int, parameters: SamplingParameters, max_length: int
) -> list[Sample]:
    """`n` strings after a prefix of token ids; `max_length` counts the prefix."""
    vocabulary = session.manifest.vocabulary
    states = initial_states(session.manifest.states, n)
    for token in [BOUNDARY, *prefix]:
        logits, states = session.step(np.full(n, token), states)
    texts = [list(prefix) for _ in range(n)]
    log_probs = np.zeros(n)
    finish: list[FinishReason | None] = [None] * n
    for step in range(max_length - len(prefix) + 1):
        ids, drawn_log_probs = sampling.draw(
            logits,
            np.full(n, parameters.temperature),
            np.full(n, parameters.top_k),
            _uniforms(parameters.seed, n, step),
        )
        for row in (row for row in range(n) if finish[row] is None):
            if ids[row] == BOUNDARY:
                finish[row] = FinishReason.END
            elif len(texts[row]) == max_length:
                finish[row] = FinishReason.MAX_LENGTH
                continue
            else:
                texts[row].append(int(ids[row]))
            log_probs[row] += drawn_log_probs[row]
        if None not in finish:
            break
        logits, states = session.step(ids, states)
    return [
        Sample(vocabulary.decode(texts[row]), row, reason, float(log_probs[row]))
        for row, reason in enumerate(finish)
        if reason is not None
    ]


def _uniforms(seed: int, n: int, step: int) -> sampling.Float64:
    zeros = np.zeros(n, np.uint64)
    return philox.uniforms(
        zeros + np.uint64(seed), np.arange(n, dtype=np.uint64), zeros, zeros + np.uint64(step)
    )
