"""Who may call: names and bearer tokens from a file, a pair a line.

    # comment
    alice 6vLuqEpHCd0lnfQ0dWkDTfpEzLqnGvJt
    bob   sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0ba22cd15d6c15b0f00a08

Two lines with one name are two tokens of one caller, so that a token can be replaced without a gap.
"""

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from serving.errors import InvalidArgument
from serving.watched import Watched, read_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
TOKEN = re.compile(
    r"[A-Za-z0-9._~+/=-]{16,512}", re.ASCII
)  # what RFC 6750 allows, and not too short
DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)

Digests = Sequence[tuple[bytes, str]]


class Tokens:
    """The names of callers by their tokens; follows its file.

    Args:
        path: of the file, see above.

    Raises:
        InvalidArgument: the file cannot be read, or a line of it is no name and token.
    """

    def __init__(self, path: Path) -> None:
        self._digests = Watched([path], lambda: read(path))

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None for nobody's. Takes as long whichever it is."""
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = None
        for known, name in self._digests.current():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read(path: Path) -> Digests:
    """Digests and names; an error tells the line's number and never what is in it."""
    try:
        lines = read_file(path).decode("ascii").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise InvalidArgument("token_file", f"{path} cannot be read: {reason}") from None
    digests = [
        _entry(line.split(), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not digests:
        raise InvalidArgument("token_file", f"{path} has no token")
    return digests


def _entry(words: list[str], where: str) -> tuple[bytes, str]:
    match words:
        case [name, secret] if NAME.fullmatch(name):
            if digest := DIGEST.fullmatch(secret):
                return bytes.fromhex(digest[1]), name
            if TOKEN.fullmatch(secret):
                return sha256(secret.encode()).digest(), name
    raise InvalidArgument(
        "token_file",
        f"{where} is not a name and a token of 16 to 512 letters, digits and -._~+/=, "
        "or a name and sha256: with 64 hexadecimal digits",
    )
