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
    # Columns, [1], since an element of a row costs twice as much.
    place, token, at = live["place"], live["token"], live["at"]
    length, longest = live["length"], live["max_length"]
    left, may_leave = live[:0], not is_interrupted()
    steps, is_over = 0, False

    def goes_on() -> bool:
        nonlocal steps, is_over
        steps += 1
        is_over = steps == MOST or is_interrupted()
        return not is_over

    while not is_over:
        if walk(live).done:
            return True
        if contexts.walker.is_compiled and contexts.go_on(live, goes_on):
            continue
        before = place.item()
        can_end = longest.item() - length.item() < MOST - 1 - steps
        after = contexts.step(before, token.item(), may_leave=may_leave and can_end)
        if after == contexts.off != before:
            left = table.copied(live)
        if after != NOWHERE:
            place[0], token[0] = after, -1
            at[0] += 1
        goes_on()
    if place.item() == contexts.off:
        live[:] = left  # what it has drawn since, it draws again, the same
    return False
