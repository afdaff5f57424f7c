"""Types of command-line values that every command shares."""

import os
from typing import Any

import click


class Text(click.types.StringParamType):
    """Text; in a locale without letters of other scripts, the UTF-8 that the terminal sent."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Decode; fails for bytes that are no text, which no message can hold."""
        text: str = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            try:
                return os.fsencode(text).decode()
            except UnicodeError:
                self.fail("it is not UTF-8", param, ctx)
        return text


class Whole(click.types.IntParamType):
    """A whole number that a message's field can hold; what else is wrong with it the server says."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse; fails for a number that the field cannot hold."""
        number: int = super().convert(value, param, ctx)
        if not self.low <= number <= self.high:
            self.fail(f"{number:,} is not from {self.low:,} to {self.high:,}", param, ctx)
        return number


TEXT = Text()
INT32 = Whole(-(2**31), 2**31 - 1)
UINT64 = Whole(0, 2**64 - 1)
