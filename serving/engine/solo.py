"""A row that has a lane for itself: the same as a lane's turns, without what many rows need.

What a turn costs beside the model's step matters to one row alone, and to a caller who waits for one string.
"""

from collections.abc import Callable

from serving.engine import rows as table
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
    row, left = live[0], live[:0]
    may_leave = not is_interrupted()
    for steps in range(MOST):
        if walk(live).done:
            return True
        place = int(row["place"])
        can_end = row["max_length"] - row["length"] < MOST - 1 - steps
        after = contexts.step(place, int(row["token"]), may_leave=may_leave and bool(can_end))
        if after == contexts.off != place:
            left = table.copied(live)
        if after != NOWHERE:
            row["place"], row["token"] = after, -1
            row["at"] += 1
        if is_interrupted():
            break
    if row["place"] == contexts.off:
        live[:] = left  # what it has drawn since, it draws again, the same
    return False
