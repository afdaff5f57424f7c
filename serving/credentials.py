"""A client's side of TLS and tokens: whom it believes, and what it shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from serving.addresses import is_local
from serving.errors import InvalidArgument
from serving.text_files import BOM, read_bytes, read_lines


@dataclass(frozen=True)
class Credentials:
    """Files that a client reads when it connects; without any, it speaks without TLS.

    Attributes:
        tls_ca: PEM file of the authorities that it believes; set, it speaks TLS.
        tls_certificate: PEM file of its own certificate and chain, for servers that ask for one.
        tls_key: PEM file of that certificate's private key.
        token_file: file of its token: alone, or after a name as in the server's file.
    """

    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("tls_ca", "tls_certificate", "tls_key", "token_file"):
            if not isinstance(getattr(self, name), Path | None):
                raise InvalidArgument(name, "must be a pathlib.Path")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidArgument("tls_key", "and tls_certificate are given together or not at all")
        if self.tls_certificate and not self.tls_ca:
            raise InvalidArgument("tls_ca", "is needed where tls_certificate is given")

    def channel(self, address: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        """A channel to a server; raises InvalidArgument if a file cannot be used."""
        if self.tls_ca is None:
            return grpc.insecure_channel(address, options)
        ca, key, certificate = (
            _content(field, getattr(self, field))
            for field in ("tls_ca", "tls_key", "tls_certificate")
        )
        return grpc.secure_channel(
            address, grpc.ssl_channel_credentials(ca, key, certificate), options
        )

    def metadata(self, address: str) -> tuple[tuple[str, str], ...]:
        """What goes along with each call; raises InvalidArgument if the token could be read on the way."""
        if self.token_file is None:
            return ()
        if self.tls_ca is None and not is_local(address):
            raise InvalidArgument(
                "token_file", "needs tls_ca: else the token could be read on the way"
            )
        lines = read_lines(self.token_file, "token_file")
        words = [word for line in lines for word in line.text.split()]
        if (
            len(words) not in (1, 2)
            or not (words[-1].isascii() and words[-1].isprintable())
            or words[-1].startswith("sha256:")
        ):
            raise InvalidArgument("token_file", f"{self.token_file} does not have one token")
        return (("authorization", f"Bearer {words[-1]}"),)


def why_not_connected(message: str) -> str:
    """What grpc's message about a connection that came to nothing says of TLS; empty for nothing."""
    if "andshake failed" in message or "erification" in message:
        return (
            "it speaks no TLS, or its certificate is not one of this name that tls_ca vouches for"
        )
    if "Socket closed" in message:
        return "it hangs up: it may want TLS (tls_ca), or a certificate of the client's (tls_certificate)"
    return ""


def _content(field: str, path: Path | None) -> bytes | None:
    return read_bytes(path, field).replace(BOM, b"") if path else None
