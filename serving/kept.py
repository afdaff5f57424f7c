"""What was worked out before, as far as it fits into so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

SHARE = 4
"""What takes more than this part of the bytes is not kept: it would push out all else for one caller."""


@dataclass(frozen=True)
class Entry:
    """A value, the bytes that it adds, and the key of what it is made from and holds in memory."""

    value: Any
    weight: int
    source: Hashable | None


class Kept:
    """Values by their keys; what was not used for longest goes first. For any thread.

    What a value is made from is used whenever the value is, so that it never goes before it, and its bytes
    are counted once.

    Args:
        most: bytes in all.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.weight = 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()  # what was just used is last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Any:
        """The value of a key; None if it is not there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._use(key)
            return entry.value

    def keep(
        self, key: Hashable, value: Value, weight: int, source: Hashable | None = None
    ) -> Value:
        """What is there under a key: the value, unless there was one before.

        Args:
            key: whose bytes are part of the weight.
            value: is not kept if it is too large, or if its source is not.
            weight: bytes that it adds to those of its source.
            source: the key of what it is made from.
        """
        with self._lock:
            before = self._entries.get(key)
            if before is not None:
                self._use(key)
                found: Value = before.value
                return found
            if weight <= self.most // SHARE and (source is None or source in self._entries):
                self._entries[key] = Entry(value, weight, source)
                self._use(key)
                self.weight += weight
                self._shrink()
            return value

    def _use(self, key: Hashable | None) -> None:
        while key is not None:
            self._entries.move_to_end(key)
            key = self._entries[key].source

    def _shrink(self) -> None:
        while self.weight > self.most:
            _, entry = self._entries.popitem(last=False)
            self.weight -= entry.weight
