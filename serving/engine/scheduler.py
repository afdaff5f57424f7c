"""Whose rows run next: bookkeeping alone, without tensors, threads or a clock of its own."""

from collections.abc import Sequence

LIGHT = 2048
"""Characters that a light job may take at most."""
LEAD = 0.02
"""Seconds by which one lane may be ahead of the other."""


def shares(wanted: Sequence[int], held: Sequence[int], free: int) -> list[int]:
    """How many of the free rows each job gets, so that all come to hold as many as each other.

    Args:
        wanted: rows that each job could begin.
        held: rows that each job has.
        free: rows that nobody has.
    """
    given = [0] * len(wanted)
    open_ = [i for i, want in enumerate(wanted) if want > 0]
    while free > 0 and open_:
        # Raise the jobs that hold least to the level of the next, or as far as rows reach.
        level = min(held[i] + given[i] for i in open_)
        lowest = [i for i in open_ if held[i] + given[i] == level]
        above = [held[i] + given[i] for i in open_ if held[i] + given[i] > level]
        room = min(wanted[i] - given[i] for i in lowest)
        step = min(room, (min(above) - level) if above else room, max(free // len(lowest), 1))
        for i in lowest[:free]:
            given[i] += step
            free -= step
        open_ = [i for i in open_ if given[i] < wanted[i]]
    return given


class Turns:
    """Which of two lanes runs next: the light one, as long as it is not far ahead in time.

    So a light job waits for one step of the heavy lane at most, and either lane gets half of the time if
    both always want it.
    """

    def __init__(self) -> None:
        self._lead = 0.0

    def is_light_next(self, light: bool, heavy: bool) -> bool:
        """Whether it is the light lane's turn, given which lanes have work."""
        return light and (not heavy or self._lead < LEAD)

    def spent(self, seconds: float, is_light: bool) -> None:
        """A lane has run while both had work."""
        self._lead += seconds if is_light else -seconds
        self._lead = min(max(self._lead, -LEAD), LEAD)
