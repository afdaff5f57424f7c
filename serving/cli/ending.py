"""How a command ends that fails: one line that names flags, whatever cannot be printed or written."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import TextIO

import click

from serving.errors import InvalidArgument, MakemoreError
from serving.quoting import printable

_OPTIONS = {
    "allowed_characters": "allowed",
    "forbidden_substrings": "forbid",
    "length_policy": "complete",
    "max_attempts_per_sample": "max_attempts",
    "novelty": "novel",
}
"""Options that are not named like the request's field that they set."""
_FIELD = re.compile(r"(?:request\.)?((?:sampling\.|constraints\.)?)(\w+)(?:\[(\d+)\])?", re.ASCII)
# Names in a description, unless they are quoted or a part of a path, which is data.
_MENTIONED = re.compile(rf"(?<![\w'\"/.-]){_FIELD.pattern}(?![\w'\"/-]|\.\w)", re.ASCII)


def print_anything() -> None:
    """Let characters that standard output cannot encode be escaped, so that data cannot end a command.

    A stream that is closed, as by `>&-`, is replaced by one that throws everything away.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ending() -> Iterator[None]:
    """End the process with a status, and with one line if click or a stream fails."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        say_error(described(error))
        sys.exit(error.exit_code)
    except click.Abort:
        say_error("aborted")
        sys.exit(1)
    except OSError as error:
        if not _is_from_printing(error):
            raise
        discard_unwritable(sys.stdout)
        if error.errno != errno.EPIPE:  # whoever closes a pipe has read enough
            say_error(f"standard output cannot be written: {error.strerror}")
        sys.exit(1)


def say_error(message: str) -> None:
    """Print the line that says why a command fails."""
    with suppress(OSError):
        click.echo(f"error: {printable(message, kept=chr(10))}", err=True)
    discard_unwritable(sys.stderr)


def discard_unwritable(stream: TextIO | None) -> None:
    """Throw away what cannot be written, which the interpreter would try and complain about at its end."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _is_from_printing(error: OSError) -> bool:
    """Whether an error was raised where text is printed; files of other kinds are written elsewhere."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in ("click", "rich")


def described(error: click.ClickException) -> str:
    """A message of click's; after one about usage, where to read more."""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx:
        return f"{message[:1].lower()}{message[1:]}; see {error.ctx.command_path} --help"
    return message


def with_flags(error: MakemoreError, command: click.Command | None) -> str:
    """An error's message with the command's flags in place of the settings' and the fields' names."""
    flags = _flags(command) if command else {}

    def named(match: re.Match[str]) -> str:
        parent, name, place = match.groups()
        flag = flags.get(_OPTIONS.get(name, name))
        if flag is None or (match.re is _MENTIONED and not parent and "_" not in name):
            return match[0]
        return flag if place is None else f"{flag}, entry {int(place) + 1}"

    if not isinstance(error, InvalidArgument):
        return _MENTIONED.sub(named, str(error))
    field = _FIELD.fullmatch(error.field)
    name = named(field) if field else error.field
    return f"{name}: {_MENTIONED.sub(named, error.description)}"


def _flags(command: click.Command) -> Mapping[str, str]:
    """What a user types for each parameter of a command."""
    return {
        parameter.name: max(parameter.opts, key=len)
        if isinstance(parameter, click.Option)
        else parameter.name.upper()
        for parameter in command.params
        if parameter.name
    }
