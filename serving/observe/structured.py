"""The one place that imports structlog; its neighbours take it from here."""

import sys

# structlog takes it along where it is: 4 MB a process, for tracebacks that we do not draw
_HAS_RICH = "rich" in sys.modules
if not _HAS_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog  # noqa: E402 - not before that
from structlog.typing import EventDict, Processor, WrappedLogger  # noqa: E402

if not _HAS_RICH:
    del sys.modules["rich"]

__all__ = ["EventDict", "Processor", "WrappedLogger", "structlog"]
