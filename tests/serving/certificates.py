"""Certificates for tests, and the files that they are in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

TOKEN = "6vLuqEpHCd0lnfQ0dWkDTfpEzLqnGvJt"


@dataclass(frozen=True)
class Pair:
    """A certificate's file and its key's."""

    certificate: Path
    key: Path


class Authority:
    """An authority whose files are in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *identities: str, to: str = "server", **how: Any) -> Pair:
        """A certificate in place of the one that was there; `how` is as in trustme."""
        made = self._ca.issue_cert(*identities, **how)
        pair = Pair(self._folder / f"{to}.pem", self._folder / f"{to}.key")
        for path, contents in (
            (pair.key, [made.private_key_pem]),
            (pair.certificate, made.cert_chain_pems),
        ):
            beside = path.with_suffix(".part")
            beside.write_bytes(b"".join(blob.bytes() for blob in contents))
            beside.replace(path)
        return pair


def self_signed(
    folder: Path,
    key: Any,
    *names: x509.GeneralName,
    common_name: str = "localhost",
    valid: tuple[int, int] = (-1, 1),
    is_authority: bool = True,
) -> Pair:
    """A certificate that signs itself, in place of the server's in a folder.

    Args:
        folder: has the files.
        key: a private key of the package cryptography.
        names: alternative names of the subject.
        common_name: of the subject.
        valid: the days between which it is valid, from today.
        is_authority: it says that it is an authority.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    start, end = (now + timedelta(days=day) for day in valid)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    algorithm = None if "Ed" in type(key).__name__ else SHA256()
    pair = Pair(folder / "server.pem", folder / "server.key")
    pair.certificate.write_bytes(builder.sign(key, algorithm).public_bytes(Encoding.PEM))
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return pair


def loopback() -> list[x509.GeneralName]:
    """The names of a server on this machine."""
    return [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
