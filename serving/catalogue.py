"""Which version a name means: `names`, `names@2`, `names@stable`. Never changed, only replaced."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from serving.errors import InvalidArgument, NotFound
from serving.quoting import quoted

if TYPE_CHECKING:
    from serving.repository import Model

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
NAME_RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
VERSION_RULE = "a whole number from 1 to 999999999 without leading zeros"

TOLD = 20
"""Names that an error tells at most."""

Aliases = Mapping[str, int]


def check_name(name: str) -> None:
    """Raise InvalidArgument unless a model may be called so."""
    if not NAME.fullmatch(name):
        raise InvalidArgument(
            "name",
            f"{quoted(name)} must be {NAME_RULE}",
        )


@dataclass(frozen=True)
class Catalogue:
    """The versions that are served at one moment.

    Attributes:
        models: by name, then by version.
        aliases: by the model's name: which version each of them means, served or not.
        default: what an empty name means; empty for the only model there is.
    """

    models: "Mapping[str, Mapping[int, Model]]"
    aliases: Mapping[str, Aliases]
    default: str = ""

    @classmethod
    def of(
        cls, models: "Iterable[Model]", aliases: Mapping[str, Aliases], default: str = ""
    ) -> Self:
        """A catalogue whose models know their aliases."""
        found: dict[str, dict[int, Model]] = {}
        for model in models:
            meaning = aliases.get(model.name, {}).items()
            its = tuple(sorted(alias for alias, version in meaning if version == model.version))
            found.setdefault(model.name, {})[model.version] = replace(model, aliases=its)
        return cls(found, aliases, default)

    def list(self) -> "list[Model]":
        """Every version, by name, then by version."""
        return [m for _, vs in sorted(self.models.items()) for _, m in sorted(vs.items())]

    def find(self, asked: str) -> "Model":
        """The version that a name means; a leading `models/` is allowed, empty is the default.

        Raises:
            NotFound: there is none.
            InvalidArgument: none is named, and there is no default.
        """
        if not asked:
            asked = self._default()
        name, at, wanted = asked.removeprefix("models/").partition("@")
        versions = self.models.get(name, {})
        if not versions:
            raise NotFound(f"there is no model {quoted(asked)}; there are: {self._names()}")
        if not at:
            return versions[max(versions)]
        aliases = self.aliases.get(name, {})
        if not VERSION.fullmatch(wanted) and wanted not in aliases:
            others = _listed([*map(str, sorted(versions)), *sorted(aliases)])
            raise NotFound(f"the model '{name}' has no version {quoted(wanted)}; it has: {others}")
        version = aliases[wanted] if wanted in aliases else int(wanted)
        if version not in versions:
            also = f", which '{wanted}' means" if wanted in aliases else ""
            raise NotFound(
                f"the model '{name}' has no version {version}{also}; it has: "
                f"{_listed(list(map(str, sorted(versions))))}"
            )
        return versions[version]

    @property
    def is_ambiguous(self) -> bool:
        """Whether an empty name could mean several models."""
        return not self.default and len(self.models) > 1

    def _default(self) -> str:
        if self.default:
            return self.default
        if len(self.models) != 1:
            raise InvalidArgument("model", f"must name one of: {self._names()}")
        return next(iter(self.models))

    def _names(self) -> str:
        return _listed(sorted(self.models)) or "none"


def _listed(names: Sequence[str]) -> str:
    """Names for a message, which has no room for thousands."""
    more = [f"and {len(names) - TOLD:,} more"] if len(names) > TOLD else []
    return ", ".join([*names[:TOLD], *more])
