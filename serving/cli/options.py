"""Options that the commands which call a server share."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from serving.cli.types import INT32
from serving.client import TIMEOUT, Client
from serving.config import LISTEN
from serving.credentials import Credentials
from serving.errors import NoServer
from serving.quoting import shown_json
from serving.text_files import read_lines

F = TypeVar("F", bound=Callable[..., Any])

CREDENTIALS = "makemore.credentials"
"""Where a command's context has what `connected` makes its Credentials of."""


def _keep(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    ctx.meta.setdefault(CREDENTIALS, {})[param.name] = value


def _file(name: str, help: str) -> Callable[[F], F]:
    """An option that no command sees: it is for `connected` alone."""
    kind = click.Path(path_type=Path)
    return click.option(name, type=kind, callback=_keep, expose_value=False, help=help)


SECURITY = (
    _file("--tls-ca", "PEM file of the authorities to believe; turns TLS on."),
    _file("--tls-certificate", "PEM file of this client's certificate."),
    _file("--tls-key", "PEM file of its private key."),
    _file("--token-file", "File of the token to show."),
)
CALLING = (
    click.option("--address", default=LISTEN, show_default=True, help="host:port or unix:path."),
    click.option(
        "--model", default="", help="names, names@2 or names@stable.  [default: the server's]"
    ),
    click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait."),
    *SECURITY,
)
CONSTRAINTS = (
    click.option("--min-length", type=INT32, help="Shortest string."),
    click.option("--max-length", type=INT32, help="Longest string.  [default: the model's]"),
    click.option("--novel", is_flag=True, help="No string of the training part."),
    click.option(
        "--exclude",
        type=click.Path(path_type=Path),
        help="File of strings that are not wanted, one a line.",
    ),
    click.option("--pattern", help="Regular expression that each whole string matches."),
    click.option("--suffix", help="What each string ends with."),
    click.option("--contains", help="What each string has in it."),
    click.option("--allowed", help="The only characters that strings are made of."),
    click.option("--forbid", multiple=True, help="What no string has in it; may be repeated."),
)


def all_of(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """A decorator that adds every one of the options, in that order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def constraints_of(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of the message Constraints from the options' values, which are taken out of `given`."""
    excluded = given.pop("exclude")
    return {
        "min_length": given.pop("min_length"),
        "max_length": given.pop("max_length"),
        "novelty": "NOVELTY_NOT_IN_TRAINING" if given.pop("novel") else None,
        "exclude": [line.text for line in read_lines(excluded, "exclude")] if excluded else None,
        "pattern": given.pop("pattern"),
        "suffix": given.pop("suffix"),
        "contains": given.pop("contains"),
        "allowed_characters": given.pop("allowed"),
        "forbidden_substrings": list(given.pop("forbid")) or None,
    }


def json_line(message: Message, **more: Any) -> str:
    """A message as a JSON object on one line, with every field whose being unset means nothing.

    Args:
        message: of the service.
        more: what comes before its fields.
    """
    fields = MessageToDict(message, always_print_fields_with_no_presence=True)
    is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"  # else other escapes would get in
    return shown_json(json.dumps(more | fields, ensure_ascii=not is_utf8))


@contextmanager
def connected(address: str, timeout: float) -> Iterator[Client]:
    """A client; where no server answers, the error says how to start one."""
    given = click.get_current_context().meta.get(CREDENTIALS, {})
    with Client(address, timeout, Credentials(**given)) as client:
        try:
            yield client
        except NoServer as error:
            raise NoServer(f"{error}\nstart one with: makemore serve --listen {address}") from None
