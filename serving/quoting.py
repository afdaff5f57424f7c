"""Text that came from elsewhere, made harmless for a message, a terminal or a log.

What cannot be seen is escaped as Python does it: line ends that would forge a line of a log, escape
sequences that would steer a terminal, marks that turn the direction of writing.
"""

import unicodedata

LONGEST = 80

# Bidirectional overrides and isolates reorder what is shown, and spaces without width hide in it; no
# name needs them. Joiners (U+200C, U+200D) are part of how some scripts are written.
_DECEIVING = {
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\u200b\u2060\ufeff",
}


def is_control(character: str) -> bool:
    """Return whether a character steers a terminal, ends a line or deceives a reader.

    No model learns such a character, and no alphabet may have one.
    """
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _DECEIVING


def without_controls(text: str) -> str:
    """Text of a model as it may be shown: control characters escaped, everything else as it is."""
    if text.isprintable():
        return text
    return "".join(_escaped(c) if is_control(c) else c for c in text)


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
