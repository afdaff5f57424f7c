"""Memory that the C library has no use for, given back to the system.

Blocks of calls come and go between blocks that stay, and the room between them, which glibc keeps, grows
for as long as a server runs, though what is in use does not.
"""

import asyncio
import ctypes
from functools import cache
from typing import Any

EVERY = 30.0
"""Seconds between two times that it is given back."""


async def keep_trimmed() -> None:
    """Give it back again and again, in a thread, until cancelled."""
    while True:
        await asyncio.sleep(EVERY)
        await asyncio.to_thread(trim)


def trim() -> None:
    """Give back every page that is wholly free, wherever it lies; nothing without glibc."""
    if (found := _malloc_trim()) is not None:
        found(0)


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
