"""How long something takes as a rule: for callers who are refused it, and told when to come back."""

from serving.engine.admission import pause

PART = 0.2
"""How much the last time counts."""


class Pace:
    """The seconds that something takes, the last times counting most; 0 until it was done once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """It was done in so many seconds."""
        self.seconds += (PART if self.seconds else 1.0) * (seconds - self.seconds)

    def pause(self, turns: int = 1) -> float:
        """When to come back, where it must be done so often before."""
        return pause(turns * self.seconds)
