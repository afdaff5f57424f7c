"""A row that has a lane for itself: the same as a lane's turns, without what many rows need.

What a turn costs beside the model's step matters to one row alone, and to a caller who waits for one string.
"""

from collections.abc import Callable

from serving.engine.contexts import NOWHERE, Contexts
from serving.engine.rows import Records
from serving.engine.walking import Walked

MOST = 64
"""Steps at a time, after which the engine looks at deadlines."""


def run_alone(
    live: Records,
    contexts: Contexts,
    walk: Callable[[Records], Walked],
    is_interrupted: Callable[[], bool],
) -> bool:
    """Draw on with one simple row, [1], until it is done; whether it is.

    Args:
        live: the row, changed in place.
        contexts: where it is.
        walk: as that of the contexts.
        is_interrupted: whether something else is to be done first; asked after every step.
    """
    row = live[0]
    for _ in range(MOST):
        if walk(live).done:
            return True
        after = contexts.step(int(row["place"]), int(row["token"]))
        if after != NOWHERE:
            row["place"], row["token"] = after, -1
            row["at"] += 1
        if is_interrupted():
            break
    return False
