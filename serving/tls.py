"""The server's side of TLS: certificates that may be replaced while it serves.

Who rotates certificates replaces the files; the next handshake uses the new ones, and connections that
are open stay so until they are too old. Files are used once a handshake has proven that clients can connect.
"""

import logging
import math
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving import tls_proof
from serving.errors import InvalidArgument
from serving.quoting import printable
from serving.text_files import BOM, read_bytes
from serving.watched import Watched

log = logging.getLogger(__name__)

PATIENCE = 0.1
"""Seconds that handshakes wait for files that changed, while the proof needs threads that they hold."""
USABLE = "use a server's certificate with an RSA key, or an EC key on P-256 or P-384"


@dataclass(frozen=True)
class TlsContents:
    """The contents of TLS files that clients can connect with.

    Attributes:
        certificate: the server's certificate and its chain.
        key: the certificate's private key.
        client_ca: authorities of clients' certificates; None for any client.
        expiries: end of validity of each file that has one, as time.time().
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expiries: dict[Path, float]


@dataclass(frozen=True)
class TlsFiles:
    """PEM files.

    Attributes:
        certificate: the server's, followed by those that lead to its authority.
        key: the certificate's private key, not encrypted.
        client_ca: authorities of clients' certificates, which every client must then have; None for any
            client.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return (self.certificate, self.key, *([self.client_ca] if self.client_ca else []))

    def read(self) -> TlsContents:
        """Read the files, and prove by a handshake that clients can connect with them.

        Raises:
            InvalidArgument: they are not there, are no PEM, do not belong together, are not valid now, or
                are of a kind that gRPC does not accept.
        """
        certificate, key, *authorities = files = self._files()
        server = self._load()
        if files != self._files():
            raise InvalidArgument("tls_certificate", "is being replaced")
        expiries = {self.certificate: self._prove(server, certificate, key)}
        if self.client_ca is None:
            return TlsContents(certificate, key, None, expiries)
        expiries[self.client_ca] = _check_authorities(
            self.client_ca, authorities[0], certificate, key
        )
        return TlsContents(certificate, key, authorities[0], expiries)

    def _files(self) -> list[bytes]:
        fields = ("tls_certificate", "tls_key", "tls_client_ca")
        found = zip(fields, self.paths, strict=False)
        return [read_bytes(path, name, is_watched=True).replace(BOM, b"") for name, path in found]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(
                self.certificate, self.key, password=""
            )  # never ask at a terminal
        except OSError as error:  # SSLError is one
            raise self._unusable(
                f"they must be PEM files of a certificate and of its key, not encrypted: {error}"
            ) from None
        return context

    def _prove(self, server: ssl.SSLContext, certificate: bytes, key: bytes) -> float:
        """Prove that clients can connect; the end of the certificate's validity."""
        chain = tls_proof.certificates_in(certificate)
        try:
            decoded = tls_proof.decode(server, chain)
            _check_validity("tls_certificate", self.certificate, [decoded])
            tls_proof.check_handshake(key, certificate, next(iter(decoded.names), ""))
        except (ssl.SSLError, tls_proof.Unusable) as error:
            raise self._unusable(f"{error}; {USABLE}") from None
        return decoded.ends

    def _unusable(self, reason: str) -> InvalidArgument:
        files = f"{self.certificate} and {self.key}"
        return InvalidArgument("tls_certificate", f"{files} cannot be used: {reason}")


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files; raises InvalidArgument if they cannot be used now."""
    watched = Watched(files.paths, lambda: _Served(files.read()), PATIENCE)
    given = watched.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Asked by grpc at every handshake; None for no change."""
        nonlocal given
        before, given = given, watched.current()
        given.log_expiry()
        return None if given is before else given.configuration

    return grpc.dynamic_ssl_server_credentials(
        given.configuration,
        fetch,  # type: ignore[arg-type]  # None is allowed, as grpc's own description says
        require_client_authentication=files.client_ca is not None,
    )


class _Served:
    """TLS files in use."""

    def __init__(self, contents: TlsContents) -> None:
        self.configuration = grpc.ssl_server_certificate_configuration(
            [(contents.key, contents.certificate)], root_certificates=contents.client_ca
        )
        self._expiries = dict(contents.expiries)

    def log_expiry(self) -> None:
        """Log each file that has expired since it was read, once."""
        now = tls_proof.now()
        for path in [path for path, ends in self._expiries.items() if ends <= now]:
            if ends := self._expiries.pop(path, None):
                log.error(
                    "%s expired on %s: no client can connect until it is replaced",
                    printable(str(path)),
                    _date(ends),
                )


def _check_authorities(path: Path, authorities: bytes, certificate: bytes, key: bytes) -> float:
    """Check the authorities of clients; the end of the last one's validity. Raises InvalidArgument."""
    try:
        context = tls_proof.client_context(tls_proof.certificates_in(authorities))
        with tls_proof.temporary_server(key, certificate, authorities):
            pass
    except (ssl.SSLError, tls_proof.Unusable) as error:
        raise InvalidArgument("tls_client_ca", f"{path} has no PEM certificate: {error}") from None
    found = [decoded for _, decoded in tls_proof.authorities(context)]
    if len(found) < context.cert_store_stats()["x509"]:
        return math.inf  # others than authorities are not decoded
    _check_validity("tls_client_ca", path, found)
    return max(one.ends for one in found)


def _check_validity(field: str, path: Path, certificates: Sequence[tls_proof.Certificate]) -> None:
    """Raise InvalidArgument if none of the certificates is valid now."""
    now = tls_proof.now()
    if any(one.begins <= now < one.ends for one in certificates):
        return
    last = max(certificates, key=lambda one: one.ends)
    when = (
        f"expired on {_date(last.ends)}"
        if last.ends <= now
        else f"is valid from {_date(last.begins)} on"
    )
    raise InvalidArgument(field, f"{path} {when}: no client could connect")


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
