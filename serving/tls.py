"""The server's side of TLS: certificates that may be replaced while it serves.

Who rotates certificates replaces the files; the next handshake uses the new ones, and connections that
are open stay so until they are too old.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.errors import InvalidArgument
from serving.watched import Watched


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

    def read(self) -> tuple[bytes, ...]:
        """The contents of `paths`, checked.

        Raises:
            InvalidArgument: they are not there, are no PEM, or do not belong together.
        """
        try:
            contents = self._contents()
        except OSError as error:
            raise InvalidArgument("tls_certificate", f"cannot be used: {error}") from None
        self._check()
        if contents == self._contents():
            return contents
        raise InvalidArgument("tls_certificate", "is being replaced")

    def _contents(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self.paths)

    def _check(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(
                self.certificate, self.key, password=""
            )  # never ask at a terminal
        except OSError as error:  # SSLError is one
            raise InvalidArgument(
                "tls_certificate",
                f"{self.certificate} and {self.key} cannot be used; they must be PEM files of a "
                f"certificate and of its key, not encrypted: {error}",
            ) from None
        try:
            if self.client_ca:
                context.load_verify_locations(self.client_ca)
        except OSError as error:
            raise InvalidArgument(
                "tls_client_ca", f"{self.client_ca} has no PEM certificate: {error}"
            ) from None


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files; raises InvalidArgument if they cannot be used now."""
    watched = Watched(files.paths, lambda: _configuration(files.read()))
    given = watched.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Asked by grpc at every handshake; None for no change."""
        nonlocal given
        before, given = given, watched.current()
        return None if given is before else given

    return grpc.dynamic_ssl_server_credentials(
        given,
        fetch,  # type: ignore[arg-type]  # None is allowed, as grpc's own description says
        require_client_authentication=files.client_ca is not None,
    )


def _configuration(contents: tuple[bytes, ...]) -> grpc.ServerCertificateConfiguration:
    certificate, key, *authorities = contents
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], root_certificates=authorities[0] if authorities else None
    )
