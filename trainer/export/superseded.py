"""Comparison of an export with the version that it supersedes, by dev NLL."""

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
"""Decimals of an NLL; models whose NLLs agree to this precision are equally good."""


@dataclass(frozen=True)
class Superseded:
    """The newest servable version of a model before a given version.

    Attributes:
        name: name and version, such as `names@2`.
        manifest: its manifest.
    """

    name: str
    manifest: Manifest

    @classmethod
    def before(cls, folder: Path) -> Self | None:
        """Return the version that `<repository>/<name>/<version>/` supersedes; None if there is none."""
        for version in sorted(versions_in(folder.parent), reverse=True):
            if version < int(folder.name):
                try:
                    content = read_verified(folder.parent / str(version))[MODEL]
                    return cls(f"{folder.parent.name}@{version}", check(content))
                except (BadModel, OSError):  # a server would not serve it: try the one before
                    continue
        return None

    def is_comparable(self, manifest: Manifest) -> bool:
        """Whether both versions were scored on the same dev part."""
        scored = _dev_part(manifest)
        return scored is not None and scored == _dev_part(self.manifest)

    def is_better(self, manifest: Manifest) -> bool:
        """Whether this version is comparable with the new one and better."""
        return self.is_comparable(manifest) and _nll(self.manifest) < _nll(manifest)

    def refuse_if_better(self, manifest: Manifest) -> None:
        """Raise ExportRefused if this version is better than the new one."""
        if self.is_better(manifest):
            raise ExportRefused(
                f"worse than {self.name}, which it would replace: {self.comparison(manifest)}; publish "
                "it under another --name, or give --replace-better to publish it all the same"
            )

    def comparison(self, manifest: Manifest) -> str:
        """Describe both dev NLLs, and why they cannot be compared if they cannot."""
        ours, theirs = _shown_nll(manifest), _shown_nll(self.manifest)
        if self.is_comparable(manifest):
            return f"dev NLL {ours}, that of {self.name} is {theirs}"
        return (
            f"dev NLL {ours}; that of {self.name} is {theirs}, but on another dev part "
            f"({_dataset_name(self.manifest)}, here {_dataset_name(manifest)}), so they cannot be compared"
        )


def _dev_part(manifest: Manifest) -> dict[str, Any] | None:
    """Return the properties that determine the strings of the dev part; None if it was not scored."""
    scored, about = manifest.part_metrics("dev"), manifest.dataset
    if not scored:
        return None
    determining = ("sha256", "split", "duplicates_kept", "overfit")
    counts = {key: scored[key] for key in ("characters", "strings")}
    return {key: about.get(key) for key in determining} | counts


def _nll(manifest: Manifest) -> float:
    return round(float(manifest.part_metrics("dev")["nll"]), DIGITS)


def _shown_nll(manifest: Manifest) -> str:
    return f"{_nll(manifest):.{DIGITS}f}" if manifest.part_metrics("dev") else "not known"


def _dataset_name(manifest: Manifest) -> str:
    about, scored = manifest.dataset, manifest.part_metrics("dev")
    strings = f"{scored['strings']} strings of " if scored else ""
    name, digest = (str(about.get(key, "unknown")) for key in ("name", "sha256"))
    return f"{strings}{printable(name[:LONGEST])}, SHA-256 {printable(digest[:8])}"
