"""Text that came from elsewhere, made harmless for a message, a terminal or a log.

What cannot be seen is escaped as Python does it: line ends that would forge a line of a log, escape
sequences that would steer a terminal, marks that turn the direction of writing.
"""

import unicodedata

LONGEST = 80

# Bidirectional overrides and isolates reorder what is shown, and spaces without width hide in it; no
# name needs them. Joiners (U+200C, U+200D) are part of how some scripts are written.
_HIDDEN = {
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\u200b\u2060\ufeff",
}
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_NAMES = {
    "\0": "NUL",
    "\t": "TAB",
    "\v": "VERTICAL TAB",
    "\f": "FORM FEED",
    "\r": "CARRIAGE RETURN",
    "\x1a": "SUBSTITUTE",
    "\x1b": "ESCAPE",
    "\x7f": "DELETE",
}


def printable(text: str, kept: str = "") -> str:
    """The text with every character escaped that is not printable and not in `kept`.

    Doing it twice is doing it once.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def shown(text: str) -> str:
    """Data for a terminal: control characters are escaped, and all else stays as it is."""
    if text.isprintable():
        return text
    return "".join(_escaped(c) if _is_control(c) else c for c in text)


def control_character(text: str) -> str | None:
    """The first character of a text that steers a terminal or hides, in words; None without one."""
    if text.isprintable():
        return None
    for character in filter(_is_control, text):
        name = _NAMES.get(character) or unicodedata.name(character, "without a name")
        return f"the control character {name} (U+{ord(character):04X})"
    return None


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROLS or character in _HIDDEN


def quoted(text: str, longest: int = LONGEST) -> str:
    """A value in quotation marks, printable and cut to so many characters."""
    shown = text if len(text) <= longest else f"{text[:longest]}..."
    return f"'{printable(shown.replace(chr(92), chr(92) * 2))}'"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
