"""What is logged and how: by structlog, in lines for people or in JSON.

Modules log by the standard library's loggers, or by structlog's where a record has values of its own; both
come out the same, with the identifier of the call under way. Whatever a record quotes, it begins one line.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

from serving.observe.config import ObserveConfig
from serving.observe.notes import request_id
from serving.observe.structured import EventDict, Processor, WrappedLogger, structlog
from serving.observe.writing import LineWriter
from serving.quoting import printable

HANDLER: Final = "makemore"
"""Name of our handler, by which it is found again."""


def configure(config: ObserveConfig, *, worker: bool = False, stream: TextIO | None = None) -> None:
    """Have what is logged written to stderr; what another call has set up before is replaced.

    Args:
        config: how.
        worker: whether this process is one of several, whose records tell which.
        stream: written to instead.
    """
    extra = [_add_process] if worker else []
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        _add_request_id,
        *extra,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *_RENDERERS[config.log_format],
        ],
    )
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = LineWriter(stream or sys.stderr)
    handler.set_name(HANDLER)
    handler.addFilter(is_worth_logging)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == HANDLER]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(config.level)


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Whether a log record says more than that a client has left while its response was being sent."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name.startswith("grpc.") and type(error).__name__ == "ExecuteBatchError")


def _add_process(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _add_request_id(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    if made := request_id():
        event["request_id"] = made
    return event


def line(logger: WrappedLogger, name: str, event: MutableMapping[str, Any]) -> str:
    """`WARNING: what happened key=value`, then a traceback, indented."""
    level, told = event.pop("level", name).upper(), printable(str(event.pop("event")))
    trace = event.pop("exception", "")
    values = "".join(f" {printable(key)}={shown(value)}" for key, value in event.items())
    indented = "".join(f"\n  {printable(one)}" for one in trace.splitlines())
    return f"{level}: {told}{values}{indented}"


def shown(value: object) -> str:
    """A value as it stands in a line: quoted where it is more than one word."""
    text = str(value)
    if text and not any(c.isspace() or c in "'\"=\\" or not c.isprintable() for c in text):
        return text
    return printable(repr(text))


_RENDERERS: Final[dict[str, list[Processor]]] = {
    "text": [line],
    "json": [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
}
