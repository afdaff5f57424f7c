"""A bounded resource that all clients share and of which one client may hold half."""

from collections import Counter


class Quota:
    """Counts the units of a bounded resource that each client holds; belongs to one event loop.

    Args:
        total: maximum that all clients together may hold. One client may hold half of it, so that no client
            alone can lock all others out.
        admits_oversized: let a client that holds nothing exceed its half, and exceed the total as well if
            no client holds anything. Without it, no request larger than half of the total ever succeeds.
    """

    def __init__(self, total: int, *, admits_oversized: bool = False) -> None:
        self.total = total
        self.held = 0
        self._admits_oversized = admits_oversized
        self._by_client: Counter[str] = Counter()

    def acquire(self, client: str, amount: int = 1) -> bool:
        """Acquire units for a client; return False, without acquiring any, if that would exceed a bound."""
        own = self._by_client[client]
        if not self._fits(own, amount, self.total // 2):
            return False
        if not self._fits(self.held, amount, self.total):
            return False
        self._by_client[client] = own + amount
        self.held += amount
        return True

    def _fits(self, held: int, amount: int, limit: int) -> bool:
        return held + amount <= limit or (self._admits_oversized and not held)

    def release(self, client: str, amount: int = 1) -> None:
        """Release units that were acquired."""
        self.held -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]  # Counter ignores the deletion of a missing key

    @property
    def is_full(self) -> bool:
        """Whether no client can acquire more."""
        return self.held >= self.total

    def held_by(self, client: str) -> int:
        """Return the number of units that a client holds."""
        return self._by_client.get(client, 0)
