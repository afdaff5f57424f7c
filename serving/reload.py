"""When the repository is looked at again: now and then, and at once when somebody says so."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

log = logging.getLogger(__name__)


class Reloader:
    """Calls `reload` every `interval` seconds, and whenever it was asked to; never twice at a time.

    Args:
        interval: 0 waits until it is asked.
        reload: what fails in it is logged.
    """

    def __init__(self, interval: float, reload: Callable[[], Awaitable[None]]) -> None:
        self.interval = interval
        self._reload = reload
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Look at once, or as soon as it is possible."""
        self._asked.set()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self.interval or None)
            self._asked.clear()
            try:
                await self._reload()
            except Exception:
                log.exception("the repository could not be looked at")
