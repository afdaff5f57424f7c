"""Check that clients can connect with a certificate, by a TLS handshake of gRPC with itself.

Python's OpenSSL parses the files, but gRPC's BoringSSL uses them. It loads fewer kinds of keys, and its
clients accept even fewer. A temporary server is therefore called by a temporary client.
"""

import re
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc

from serving.proxy import DIRECT

TIMEOUT: Final = 20.0
"""Timeout of the handshake in seconds; it takes about 0.01 s on an idle machine."""
_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the module ssl does not define."""
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (X509 )?CERTIFICATE-----.*?-----END (X509 )?CERTIFICATE-----", re.DOTALL
)
_OTHER_NAME: Final = re.compile("Hostname Verification|not in peer certificate")
"""gRPC's error if the handshake succeeded but the certificate is for another name."""


class Unusable(Exception):
    """Certificate files with which clients could not connect; the message is the reason."""


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that decide who can connect.

    Attributes:
        names: host names of the server; a wildcard is replaced by a name that it covers.
        begins: start of its validity, in seconds of time.time().
        ends: end of its validity, in seconds of time.time().
    """

    names: tuple[str, ...]
    begins: float
    ends: float

    @classmethod
    def of(cls, decoded: Any) -> Self:
        """Read a certificate from the dictionary into which the module ssl decodes it."""
        alternatives = decoded.get("subjectAltName", ())
        subject = [pair for part in decoded.get("subject", ()) for pair in part]
        wanted = [("DNS", "IP Address"), ("commonName",)][not alternatives]
        names = [name for kind, name in alternatives or subject if kind in wanted]
        begins, ends = (
            float(ssl.cert_time_to_seconds(decoded[field])) for field in ("notBefore", "notAfter")
        )
        return cls(tuple(name.replace("*", "any") for name in names), begins, ends)


def now() -> float:
    """Return the current time, with which validity periods are compared, in seconds of time.time()."""
    return time.time()


def certificates_in(pem: bytes) -> list[str]:
    """Return the certificates of a PEM file, without the text between them."""
    return [match[0].decode("ascii", "replace") for match in _CERTIFICATE.finditer(pem)]


def client_context(certificates: Sequence[str]) -> ssl.SSLContext:
    """Return a client context that trusts certificates; raises ssl.SSLError if none or a bad one is given."""
    if not certificates:
        raise ssl.SSLError("no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata="\n".join(certificates))
    return context


def authorities(context: ssl.SSLContext) -> list[tuple[str, Certificate]]:
    """Return the CA certificates that a context trusts; the module ssl does not list other certificates."""
    return [
        (ssl.DER_cert_to_PEM_cert(der), Certificate.of(decoded))
        for der, decoded in zip(context.get_ca_certs(True), context.get_ca_certs(), strict=True)
    ]


def decode(server: ssl.SSLContext, chain: Sequence[str]) -> Certificate:
    """Decode a server's certificate, which the module ssl does only after a handshake.

    Args:
        server: context with the chain and its key.
        chain: the certificates of the chain; the server's own is the first.

    Raises:
        ssl.SSLError: the handshake fails, or the certificate is not valid for servers.
    """
    client = client_context(chain[:1])
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(received, sent)
    sides = [client_side, server.wrap_bio(sent, received, server_side=True)]
    while sides:
        side = sides.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            sides.append(side)
    return Certificate.of(client_side.getpeercert())


def check_handshake(key: bytes, pem: bytes, name: str) -> None:
    """Check that a gRPC client can complete a handshake with a gRPC server.

    The client trusts the certificate itself and the unexpired authorities of its chain.

    Args:
        key: the private key.
        pem: the certificate and its chain.
        name: the server's name in the certificate; empty for none.

    Raises:
        Unusable: gRPC cannot load the files, or the handshake fails.
    """
    chain = certificates_in(pem)
    valid = [one for one, about in authorities(client_context(chain)) if about.ends > now()]
    trusted = grpc.ssl_channel_credentials("\n".join([chain[0], *valid]).encode())
    options = [
        ("grpc.ssl_target_name_override", name or "localhost"),
        *DIRECT,
    ]
    with (
        temporary_server(key, pem) as port,
        grpc.secure_channel(f"127.0.0.1:{port}", trusted, options) as channel,
    ):
        ask: Any = channel.unary_unary("/")
        try:
            ask(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            code, details = error.code(), str(error.details())
            if code != grpc.StatusCode.UNIMPLEMENTED and not _OTHER_NAME.search(details):
                reason = details.rpartition(f":{port}: ")[2]
                raise Unusable(f"clients cannot connect: {reason}") from None


@contextmanager
def temporary_server(key: bytes, pem: bytes, client_ca: bytes | None = None) -> Iterator[int]:
    """Run a server without methods on loopback with TLS files; yields its port.

    Raises:
        Unusable: gRPC cannot load the files.
    """
    server = grpc.server(ThreadPoolExecutor(1))
    try:
        credentials = grpc.ssl_server_credentials([(key, pem)], client_ca)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield port
    except RuntimeError:
        raise Unusable("gRPC cannot load them") from None
    finally:
        server.stop(0).wait()
