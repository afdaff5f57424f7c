"""Notices an engine that has failed, or that hangs; what it does about it is the server's business."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from serving.engine.protocols import AnyEngine
from serving.errors import Unavailable

log = logging.getLogger(__name__)

LOOK = 0.05
"""Seconds between two looks."""


class Watchdog:
    """Looks at engines every now and then.

    An engine hangs when work waits and it has taken no turn between so many looks. Looks are counted and
    not seconds, so that a process that was stopped for a while, or a clock that jumps, is no hang.

    Args:
        limit: seconds without a turn that are a hang; 0 takes nothing for one.
        engines: tells those that run.
    """

    def __init__(self, limit: float, engines: Callable[[], Iterable[AnyEngine]]) -> None:
        self.limit = limit
        self._engines = engines
        self._seen: dict[AnyEngine, tuple[int, int]] = {}  # beats, and looks since they were fewer

    async def run(self) -> str:
        """Look until something is wrong; what it is."""
        while not (reason := self.look()):
            await asyncio.sleep(LOOK)
        return reason

    def look(self) -> str:
        """What is wrong with an engine, whose calls have their answer then; empty if nothing is."""
        seen = {}
        for engine in self._engines():
            beats, looks = self._seen.get(engine, (-1, 0))
            looks = looks + 1 if engine.is_busy and engine.beats == beats else 0
            if self.limit and looks * LOOK > self.limit:
                reason = f"the engine of {engine.name} has taken no turn for {self.limit:g} s"
                log.critical("%s; it is in %s", reason, engine.position())
                engine.fail(reason, Unavailable("the model does not answer; try again"))
            if engine.failure:
                return engine.failure
            seen[engine] = (engine.beats, looks)
        self._seen = seen
        return ""
