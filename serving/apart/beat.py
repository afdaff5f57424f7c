"""Signs of life."""

from dataclasses import dataclass, field

from serving.engine.figures import Figures


@dataclass(frozen=True)
class Beat:
    """What is seen of an engine from afar.

    Attributes:
        beats: see Engine.
        taken: messages that it has read.
        is_busy: see Engine.
        figures: see Engine.
        position: where its thread is; only told while it is busy and its beats do not count up.
    """

    beats: int = 0
    taken: int = 0
    is_busy: bool = False
    figures: Figures = field(default_factory=Figures)
    position: str = ""
