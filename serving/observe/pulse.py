"""Whether the event loop turns, which those ask who run in other threads."""

import asyncio
import time
from typing import Final

BEAT: Final = 0.2
"""Seconds between two beats."""
LIMIT: Final = 30.0
"""Seconds without one after which the event loop stands still."""


class Pulse:
    """Beats in an event loop once it is started, until it is stopped."""

    def __init__(self) -> None:
        self._last: float | None = None

    def start(self) -> None:
        """Beat in the running loop."""
        self._last = time.monotonic()
        self._beat(asyncio.get_running_loop())

    def stop(self) -> None:
        """Beat no more, which nobody is told of."""
        self._last = None

    def what_ails(self) -> str:
        """That the loop stands still; empty if it does not. It may take two beats, so not for the loop.

        It is looked at twice, since a process that was stopped for a while has not beaten either.
        """
        if self._is_late():
            time.sleep(2 * BEAT)
        return f"the event loop has stood still for {LIMIT:g} s" if self._is_late() else ""

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._last is not None:
            self._last = time.monotonic()
            loop.call_later(BEAT, self._beat, loop)

    def _is_late(self) -> bool:
        last = self._last
        return last is not None and time.monotonic() - last > LIMIT
