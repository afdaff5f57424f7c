"""What is counted of an engine, at one moment."""

import sys
import threading
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from serving.engine.ledger import Key


@dataclass(frozen=True)
class TreeFigures:
    """What a prefix tree has done, and its size."""

    hits: int
    steps: int
    bytes_used: int


@dataclass(frozen=True)
class Figures:
    """The counts of an engine since its start.

    Attributes:
        counts: see Ledger.
        rows: that run now: light ones, heavy ones.
        stepped: rows of all steps.
        seconds: that the steps took.
        spans: see StepClock.
        tree: None where there is no prefix tree.
    """

    counts: Counter[Key] = field(default_factory=Counter)
    rows: tuple[int, int] = (0, 0)
    stepped: int = 0
    seconds: float = 0.0
    spans: tuple[int, ...] = ()
    tree: TreeFigures | None = None


def position_of(thread: threading.Thread) -> str:
    """Where a thread is now, the innermost call last: `lane.py:101 turn, session.py:150 step`."""
    frame = sys._current_frames().get(thread.ident or 0)
    calls = traceback.extract_stack(frame, limit=8) if frame else []
    return ", ".join(f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls)
