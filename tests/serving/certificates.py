"""Certificates for tests, and the files that they are in."""

from dataclasses import dataclass
from pathlib import Path

import trustme

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

    def issue(self, *identities: str, to: str = "server") -> Pair:
        """A certificate in place of the one that was there."""
        made = self._ca.issue_cert(*identities)
        pair = Pair(self._folder / f"{to}.pem", self._folder / f"{to}.key")
        for path, contents in (
            (pair.key, [made.private_key_pem]),
            (pair.certificate, made.cert_chain_pems),
        ):
            beside = path.with_suffix(".part")
            beside.write_bytes(b"".join(blob.bytes() for blob in contents))
            beside.replace(path)
        return pair
