"""Text that came from elsewhere, made harmless for a message, a terminal or a log.

What cannot be seen is escaped as Python does it: line ends that would forge a line of a log, escape
sequences that would steer a terminal, marks that turn the direction of writing.
"""

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
