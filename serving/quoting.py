"""Text that came from elsewhere, made harmless for a message, a terminal or a log.

What cannot be seen is escaped as Python does it: line ends that would forge a line of a log, escape
sequences that would steer a terminal, marks that turn the direction of writing.
"""

import logging

LONGEST = 80


def printable(text: str, kept: str = "") -> str:
    """The text with every character escaped that is not printable and not in `kept`.

    Doing it twice is doing it once.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def quoted(text: str, longest: int = LONGEST) -> str:
    """A value in quotation marks, printable and cut to so many characters."""
    shown = text if len(text) <= longest else f"{text[:longest]}..."
    return f"'{printable(shown.replace(chr(92), chr(92) * 2))}'"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class PrintableFormatter(logging.Formatter):
    """Formats a record so that it begins one line and no other, whatever it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        """The traceback, indented: an exception's text may have lines of its own."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(f"  {printable(line)}" for line in lines)


def log_to_stderr(pattern: str) -> None:
    """Have what is logged from INFO on written to stderr, each record made by `pattern`."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(pattern))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
