"""The version that an export supersedes: its dev NLL beside that of the new one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from serving.errors import BadModel
from serving.graph_check import check
from serving.manifest import Manifest
from serving.quoting import LONGEST, printable
from serving.sums import MODEL, read_verified
from trainer.errors import ExportRefused
from trainer.export.publish import versions_in

DIGITS = 4
"""Decimals of the NLLs that are printed; models that agree in all of them are equally good."""


@dataclass(frozen=True)
class Superseded:
    """The newest version of a name below a given one, as long as a server would serve it.

    Attributes:
        name: name and version, as in `names@2`.
        manifest: its manifest.
    """

    name: str
    manifest: Manifest

    @classmethod
    def below(cls, folder: Path) -> Self | None:
        """The version that `<repository>/<name>/<version>/` takes the place of; None for the first."""
        for version in sorted(versions_in(folder.parent), reverse=True):
            if version < int(folder.name):
                try:
                    content = read_verified(folder.parent / str(version))[MODEL]
                    return cls(f"{folder.parent.name}@{version}", check(content))
                except (BadModel, OSError):  # a server serves the one below it
                    continue
        return None

    def is_comparable(self, manifest: Manifest) -> bool:
        """Whether both were scored on the same dev part."""
        return _dev_part(self.manifest) == _dev_part(manifest) is not None

    def is_better(self, manifest: Manifest) -> bool:
        """Whether the new version is worse than this one, as far as they can be compared."""
        return self.is_comparable(manifest) and _nll(self.manifest) < _nll(manifest)

    def refuse(self, manifest: Manifest) -> None:
        """Raise ExportRefused if the new version is worse."""
        if self.is_better(manifest):
            raise ExportRefused(
                f"worse than {self.name}, which it would replace: {self.beside(manifest)}; publish "
                "it under another --name, or give --replace-better to publish it all the same"
            )

    def beside(self, manifest: Manifest) -> str:
        """Both dev NLLs, and whether they can be compared."""
        ours, theirs = _figure(manifest), _figure(self.manifest)
        if self.is_comparable(manifest):
            return f"dev NLL {ours}, that of {self.name} is {theirs}"
        return (
            f"dev NLL {ours}; that of {self.name} is {theirs}, but on other data "
            f"({_data(self.manifest)}, here {_data(manifest)}), so they cannot be compared"
        )


def _dev_part(manifest: Manifest) -> dict[str, Any] | None:
    """Whatever determines the strings of the dev part; None if it was not scored."""
    scored, about = manifest.part_metrics("dev"), manifest.dataset
    if not scored:
        return None
    determining = ("sha256", "split", "duplicates_kept", "overfit")
    counts = {key: scored[key] for key in ("characters", "strings")}
    return {key: about.get(key) for key in determining} | counts


def _nll(manifest: Manifest) -> float:
    return round(float(manifest.part_metrics("dev")["nll"]), DIGITS)


def _figure(manifest: Manifest) -> str:
    return f"{_nll(manifest):.{DIGITS}f}" if manifest.part_metrics("dev") else "not known"


def _data(manifest: Manifest) -> str:
    about = manifest.dataset
    name, digest = (str(about.get(key, "unknown")) for key in ("name", "sha256"))
    return f"{printable(name[:LONGEST])}, SHA-256 {printable(digest[:8])}"
