"""Proof that clients can connect with a certificate: a handshake with the stack that will serve it.

Python's OpenSSL reads the files, but gRPC's BoringSSL uses them: it loads fewer kinds of keys, and its
clients accept fewer still. So a throw-away server is asked by a client.
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

TIMEOUT: Final = 20.0
"""Seconds for the handshake, which takes a hundredth of one on an idle machine."""
_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the module ssl does not name."""
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN (X509 )?CERTIFICATE-----.*?-----END (X509 )?CERTIFICATE-----", re.DOTALL
)
_OTHER_NAME: Final = re.compile("Hostname Verification|not in peer certificate")
"""gRPC's error after a handshake that succeeded, with a certificate of another name."""


class Unusable(Exception):
    """Files that clients could not connect with; the text says why."""


@dataclass(frozen=True)
class Certificate:
    """The fields of a certificate that decide who can connect.

    Attributes:
        names: of the server, as clients call it; a wildcard is replaced by a name that it covers.
        begins: start of its validity, as time.time().
        ends: end of its validity.
    """

    names: tuple[str, ...]
    begins: float
    ends: float

    @classmethod
    def of(cls, decoded: Any) -> Self:
        """Read a certificate that the module ssl has decoded."""
        alternatives = decoded.get("subjectAltName", ())
        subject = [pair for part in decoded.get("subject", ()) for pair in part]
        wanted = [("DNS", "IP Address"), ("commonName",)][not alternatives]
        names = [name for kind, name in alternatives or subject if kind in wanted]
        begins, ends = (
            float(ssl.cert_time_to_seconds(decoded[field])) for field in ("notBefore", "notAfter")
        )
        return cls(tuple(name.replace("*", "any") for name in names), begins, ends)


def now() -> float:
    """The time of day, by which certificates are valid, in seconds as of time.time()."""
    return time.time()


def certificates_in(pem: bytes) -> list[str]:
    """The certificates of a PEM file, without the text between them."""
    return [match[0].decode("ascii", "replace") for match in _CERTIFICATE.finditer(pem)]


def trusting(certificates: Sequence[str]) -> ssl.SSLContext:
    """A client's context that trusts certificates; raises ssl.SSLError if there is none, or a bad one."""
    if not certificates:
        raise ssl.SSLError("no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata="\n".join(certificates))
    return context


def authorities(context: ssl.SSLContext) -> list[tuple[str, Certificate]]:
    """The authorities among the certificates that a context trusts; others it does not tell."""
    return [
        (ssl.DER_cert_to_PEM_cert(der), Certificate.of(decoded))
        for der, decoded in zip(context.get_ca_certs(True), context.get_ca_certs(), strict=True)
    ]


def decode(server: ssl.SSLContext, chain: Sequence[str]) -> Certificate:
    """Read the certificate of a server's context, which the module ssl decodes after a handshake alone.

    Args:
        server: has the chain and its key.
        chain: the same; the server's own certificate is the first.

    Raises:
        ssl.SSLError: the handshake fails, or the certificate is not one for servers.
    """
    client = trusting(chain[:1])
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    sent, received = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(received, sent)
    left = [asking, server.wrap_bio(sent, received, server_side=True)]
    while left:
        one = left.pop(0)
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            left.append(one)
    return Certificate.of(asking.getpeercert())


def prove(key: bytes, pem: bytes, name: str) -> None:
    """Complete a handshake between a server and a client of gRPC.

    The client trusts the certificate itself, and the authorities of its chain that have not expired.

    Args:
        key: the private key.
        pem: the certificate and its chain.
        name: the server's name in the certificate; empty for none.

    Raises:
        Unusable: gRPC cannot load them, or the handshake fails.
    """
    chain = certificates_in(pem)
    valid = [one for one, about in authorities(trusting(chain)) if about.ends > now()]
    trusted = grpc.ssl_channel_credentials("\n".join([chain[0], *valid]).encode())
    options = [
        ("grpc.ssl_target_name_override", name or "localhost"),
        ("grpc.enable_http_proxy", 0),
    ]
    with (
        loaded(key, pem) as port,
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
def loaded(key: bytes, pem: bytes, client_ca: bytes | None = None) -> Iterator[int]:
    """A server without methods on loopback, which has loaded files; its port. Raises Unusable."""
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
