"""Published models on disk: which there are, whether they are whole, and which one a name means.

A version whose files do not hold what they promise is refused with its reason; the others are served.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.constraints.taken import Known
from serving.engine.session import OrtSession
from serving.errors import BadModel, InvalidArgument, NotFound
from serving.manifest import Manifest
from serving.quoting import printable, quoted

MODEL = "model.onnx"
KNOWN = "known.u64"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9._-]+)", re.ASCII)


@dataclass(frozen=True)
class Model:
    """A version that can be served."""

    folder: Path
    name: str
    version: int
    digest: str
    session: OrtSession
    known: Known | None = None

    @property
    def manifest(self) -> Manifest:
        """What the file says of itself."""
        return self.session.manifest

    @property
    def full_name(self) -> str:
        """`models/names@1`."""
        return f"models/{self.name}@{self.version}"


@dataclass(frozen=True)
class Refusal:
    """A version that is not served, and why."""

    path: Path
    reason: str


def read_verified(folder: Path) -> dict[str, bytes]:
    """The bytes of every file by name, each holding the sum that SHA256SUMS has for it.

    Raises:
        BadModel: a file is missing, or is not what was published.
    """
    try:
        sums = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise BadModel(f"SHA256SUMS cannot be read: {error}") from None
    contents = {}
    for line in sums:
        match = SUM_LINE.fullmatch(line)
        if match is None:
            raise BadModel(f"SHA256SUMS: {line[:80]!r} is not a sum and a file's name")
        try:
            content = (folder / match[2]).read_bytes()
        except OSError as error:
            raise BadModel(f"{match[2]} cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != match[1]:
            raise BadModel(f"{match[2]} is not what was published: its SHA-256 does not hold")
        contents[match[2]] = content
    if MODEL not in contents:
        raise BadModel(f"SHA256SUMS does not name {MODEL}")
    return contents


def load_version(folder: Path, threads: int = 1) -> Model:
    """A version from its folder; raises BadModel."""
    contents = read_verified(folder)
    known = Known.parse(contents[KNOWN]) if KNOWN in contents else None
    session = OrtSession(contents[MODEL], threads)
    name = folder.parent.name
    if session.manifest.name != name:
        raise BadModel(f"manifest: name is {quoted(session.manifest.name)}, the folder's '{name}'")
    digest = hashlib.sha256(contents[MODEL]).hexdigest()
    return Model(folder, name, int(folder.name), digest, session, known)


class Repository:
    """The versions found in a folder. `load` reads it; nothing is read before."""

    def __init__(self, path: Path, default: str = "", threads: int = 1) -> None:
        self.path = path
        self.default = default
        self.threads = threads
        self.models: dict[str, dict[int, Model]] = {}
        self.refusals: list[Refusal] = []

    def load(self) -> None:
        """Load every version; what is refused is in `refusals`.

        Raises:
            NotFound: the folder is not there.
        """
        if not self.path.is_dir():
            raise NotFound(f"{self.path} is no folder of models; publish one with makemore export")
        for folder in self._folders():
            try:
                model = load_version(folder, self.threads)
            except BadModel as error:
                self.refuse(folder, str(error))
            except Exception as error:  # whatever one version holds, the others are served
                self.refuse(folder, f"cannot be loaded: {type(error).__name__}: {error}")
            else:
                self.models.setdefault(model.name, {})[model.version] = model

    def _folders(self) -> Iterator[Path]:
        for name in sorted(p for p in self.path.iterdir() if NAME.fullmatch(p.name) and p.is_dir()):
            versions = [p for p in name.iterdir() if VERSION.fullmatch(p.name) and p.is_dir()]
            yield from sorted(versions, key=lambda p: int(p.name))

    def refuse(self, folder: Path, reason: str) -> None:
        """Note that a version is not served; takes it out if it was."""
        self.refusals.append(Refusal(folder, printable(reason)))
        self.models.get(folder.parent.name, {}).pop(int(folder.name), None)
        self.models = {name: versions for name, versions in self.models.items() if versions}

    def list(self) -> list[Model]:
        """Every version, by name, then by version."""
        return [m for _, vs in sorted(self.models.items()) for _, m in sorted(vs.items())]

    def find(self, asked: str) -> Model:
        """The version that `names`, `names@2` or `models/names@2` means; empty for the default.

        Raises:
            NotFound: there is none.
            InvalidArgument: none is named, and there is no default.
        """
        if not asked:
            asked = self._default()
        name, at, version = asked.removeprefix("models/").partition("@")
        versions = self.models.get(name, {})
        if not versions or (at and not VERSION.fullmatch(version)):
            raise NotFound(f"there is no model {quoted(asked)}; there are: {self._names()}")
        if version and int(version) not in versions:
            raise NotFound(
                f"the model '{name}' has no version {version}; it has: "
                f"{', '.join(map(str, sorted(versions)))}"
            )
        return versions[int(version) if version else max(versions)]

    def _default(self) -> str:
        if self.default:
            return self.default
        if len(self.models) != 1:
            raise InvalidArgument("model", f"must name one of: {self._names()}")
        return next(iter(self.models))

    def _names(self) -> str:
        return ", ".join(sorted(self.models)) or "none"
