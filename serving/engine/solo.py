"""A row that has a lane for itself: the same as a lane's turns, without what many rows need.

What a turn costs beside the model's step matters to one row alone, and to a caller who waits for one string.
"""

from collections.abc import Callable

from serving.engine.contexts import NOWHERE, Contexts
from serving.engine.rows import Records, uniforms
from serving.vocabulary import BOUNDARY

MOST = 64
"""Characters at a time, after which the engine looks at deadlines."""


def run_alone(live: Records, contexts: Contexts, is_interrupted: Callable[[], bool]) -> bool:
    """Draw on with one simple row, [1], until it is done; whether it is.

    Args:
        live: the row, changed in place.
        contexts: where it is.
        is_interrupted: whether something else is to be done first; asked after every character.
    """
    row = live[0]
    place, token, log_prob = int(row["place"]), int(row["token"]), float(row["log_prob"])
    at, length, first = int(row["at"]), int(row["length"]), int(row["first"])
    longest, uniform, text = int(row["max_length"]), row["uniform"].tolist(), row["text"]
    done = False
    for _ in range(MOST):
        if token < 0:
            step = length - first
            if step < len(uniform):
                number = uniform[step]
            else:
                row["length"] = length
                number = float(uniforms(live)[0])  # makes more where they are used up
            token, gained = contexts.draw(place, number)
            done = token == BOUNDARY or length == longest
            if token == BOUNDARY or not done:
                log_prob += gained
            if done:
                break
            text[length] = token
            length += 1
        after = contexts.step(place, token)
        if after != NOWHERE:
            place, at, token = after, at + 1, -1
        if is_interrupted():
            break
    row["place"], row["token"], row["log_prob"] = place, token, log_prob
    row["at"], row["length"] = at, length
    return done
