"""A quantity that all clients share, of which one client may have half."""

from collections import Counter


class Quota:
    """Counts what clients hold of something bounded; belongs to one event loop.

    Args:
        total: most that all clients together may hold. One client may hold half of it, so that no client
            alone can keep all others out.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._by_client: Counter[str] = Counter()

    def acquire(self, client: str, amount: int = 1) -> bool:
        """Take some for a client; False, and nothing is taken, where that is more than it may hold."""
        own = self._by_client[client] + amount
        if own > self.total // 2 or self.held + amount > self.total:
            return False
        self._by_client[client] = own
        self.held += amount
        return True

    def release(self, client: str, amount: int = 1) -> None:
        """Return what was acquired."""
        self.held -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]  # Counter allows to delete what is not there

    @property
    def is_full(self) -> bool:
        """Whether nobody can have more."""
        return self.held >= self.total

    def held_by(self, client: str) -> int:
        """Return how much a client holds."""
        return self._by_client.get(client, 0)
