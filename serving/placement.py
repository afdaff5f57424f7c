"""Where and how the steps of a model are computed: checked when built."""

from dataclasses import dataclass

from serving import checks

CPU = "cpu"
CUDA = "cuda"
DEVICES = (CPU, CUDA)
MAX_ROWS = 4096


@dataclass(frozen=True)
class Placement:
    """What a session is opened with.

    Attributes:
        device: `cpu`, or `cuda` for the first GPU that CUDA shows.
        threads: of onnxruntime on a CPU, 1 to 1,024.
        rows: that every step has on a GPU, 2 to 4,096, however many of them are wanted.
    """

    device: str = CPU
    threads: int = 1
    rows: int = 256

    def __post_init__(self) -> None:
        checks.one_of("device", self.device, DEVICES)
        checks.whole("threads", self.threads, 1, 1024)
        checks.whole("max_rows", self.rows, 2, MAX_ROWS)


ON_CPU = Placement()
"""One thread of a CPU."""
