"""The models that are being served, each with an engine that runs it, while the repository changes."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.catalogue import VERSION, Catalogue
from serving.engine.protocols import AnyEngine, Engines
from serving.engine.stepping import StepSession
from serving.errors import BadModel, InvalidArgument, NotFound, Unavailable
from serving.forbidden import ForbiddenList
from serving.layout import hint
from serving.repository import Model, Refusal, Repository

log = logging.getLogger(__name__)

LAST_LOAD = 2.0
"""Seconds for which the end waits for a version that is just being loaded."""


@dataclass(frozen=True)
class Served:
    """What is served at one moment; replaced as a whole, so that a call sees one state of it."""

    catalogue: Catalogue
    engines: Mapping[StepSession, AnyEngine]

    def find(self, asked: str) -> tuple[Model, AnyEngine]:
        """See Host.find."""
        model = self.catalogue.find(asked)
        return model, self.engines[model.session]


class Host:
    """Every model of a repository, warmed up.

    Args:
        repository: read by `start` and `reload`.
        engines: starts them, and has opened the repository's sessions.
        forbidden: compiled for every model before the model is served.

    Attributes:
        reloads: how many versions were swapped in after the start, and how many things were refused.
    """

    def __init__(
        self, repository: Repository, engines: Engines, forbidden: ForbiddenList | None = None
    ) -> None:
        self.repository = repository
        self.engines = engines
        self.forbidden = forbidden or ForbiddenList()
        self.reloads: Counter[str] = Counter(accepted=0, refused=0)
        self._served: Served | None = None
        self._begun: dict[StepSession, AnyEngine] = {}  # every engine that runs, retired ones too
        self._users: Counter[AnyEngine] = Counter()
        self._told: set[Refusal] = set()
        self._told_strays: set[Refusal] = set()
        self._lock = threading.Lock()  # of what is served and who uses it; never held for long
        self._loading = threading.Lock()
        self._is_given_up = False
        self._unusable: InvalidArgument | None = None

    def start(self) -> None:
        """Load the repository and start an engine a model; what fails is refused and logged.

        Raises:
            InvalidArgument: a model cannot be served with the forbidden list.
            NoDevice: models cannot run where they are to.
            NotFound: no model is left, or the default is not among them.
            Unavailable: it was given up.
        """
        self.engines.require()
        with self._loading:
            self._load_first()
            if self._unusable is not None:
                raise self._unusable
            catalogue = self.repository.catalogue
            self._tell()
            if not catalogue.models:
                raise NotFound(self._nothing())
            if catalogue.default:
                try:
                    catalogue.find("")
                except NotFound as error:
                    raise NotFound(f"--default-model: {error}") from None
            self._swap(catalogue)

    def _nothing(self) -> str:
        """What to tell of a repository without a model that can be served."""
        path, refusals = self.repository.path, self.repository.refusals
        if not refusals:
            return f"{path} has no model that can be served; {hint(path)}"
        more = f", and {len(refusals) - 1:,} more" if len(refusals) > 1 else ""
        first = f"{refusals[0].path}: {refusals[0].reason}"
        return f"{path} has no model that can be served; refused is {first}{more}"

    def _load_first(self) -> None:
        """Load the repository; a version that ends the engines' process twice is left out.

        Once, it may have been ended by anything. Nobody is served yet, so that nothing is lost by beginning
        anew.
        """
        ends: Counter[Path] = Counter()
        while True:
            try:
                self.repository.load(self._begin)
                return
            except Unavailable:
                suspect = self.repository.under_way
                if self._is_given_up or suspect is None:
                    raise
            how = self.engines.restart()
            with self._lock:
                self._begun.clear()
            ends[suspect] += 1
            log.warning("loading %s %s: starting another", suspect, how)
            if ends[suspect] > 1:
                self.repository.leave_out(suspect, f"loading it {how}")

    def reload(self) -> None:
        """Take over what has changed in the repository; calls under way finish on what they began with.

        What is refused is logged with its reason, once, and what was served before stays.
        """
        with self._loading:
            try:
                self.repository.load(self._begin)
            except Unavailable:
                return
            except Exception as error:  # of a disk that is taken away, there are many
                self._tell(Refusal(self.repository.path, f"cannot be read: {error}"))
                with self._lock:  # what was begun before that is begun anew at the next look
                    for engine in self._retired():
                        self._end_if_unused(engine)
            else:
                self._tell()
                self._swap(self.repository.catalogue)

    def _begin(self, model: Model) -> None:
        if self._is_given_up:
            raise Unavailable("the server is to end")
        try:
            self.forbidden.compile(model.short_name, model.manifest)
        except InvalidArgument as error:
            self._unusable = self._unusable or error
            raise BadModel(str(error)) from None
        try:
            engine = self.engines.start(model.session, model.short_name, model.known)
        except (Unavailable, OSError, MemoryError):  # which the model has no part in
            raise
        except Exception as error:  # the runtime raises many kinds
            raise BadModel(f"the first step fails: {error}") from error
        with self._lock:
            self._begun[model.session] = engine

    def _swap(self, catalogue: Catalogue) -> None:
        """Serve this from now on; engines that nobody asks any more are ended."""
        before = self._served
        with self._lock:
            engines: dict[StepSession, AnyEngine] = {
                model.session: self._begun[model.session] for model in catalogue.list()
            }
            self._served = after = Served(catalogue, engines)
            for engine in self._retired():
                self._end_if_unused(engine)
            self.forbidden.retain({begun.manifest.alphabet for begun in self._begun})
        self.forbidden.warn(model.manifest for model in catalogue.list())
        if before is not None:
            self._tell_changes(before, after)
        if catalogue.is_ambiguous and not (before and before.catalogue.is_ambiguous):
            log.warning(
                "calls that name no model are refused: there are %s; choose with --default-model",
                ", ".join(sorted(catalogue.models)),
            )

    def _retired(self) -> list[AnyEngine]:
        served = self._served.engines if self._served else {}
        return [engine for session, engine in self._begun.items() if session not in served]

    def _end_if_unused(self, engine: AnyEngine) -> None:
        """Let the thread of a retired engine end once nobody needs it; under the lock."""
        if not self._users[engine]:
            engine.close()
            del self._begun[engine.session], self._users[engine]

    def _tell_changes(self, before: Served, after: Served) -> None:
        for model in after.catalogue.list():
            if model.session not in before.engines:
                self.reloads["accepted"] += 1
                log.info("serving %s, SHA-256 %s", model.full_name, model.digest)
        for model in before.catalogue.list():
            if model.session not in after.engines:
                log.info("%s, SHA-256 %s, is served no more", model.full_name, model.digest)

    def _tell(self, *more: Refusal) -> None:
        """Log what is refused, unless it was before."""
        for stray in self.repository.strays:
            if stray not in self._told_strays:
                log.warning("%s is %s", stray.path, stray.reason)
        self._told_strays = set(self.repository.strays)
        refusals = [*self.repository.refusals, *more]
        for refusal in refusals:
            if refusal not in self._told:
                self.reloads["refused"] += self._served is not None
                log.warning("refused %s: %s", refusal.path, refusal.reason)
                self._tell_meaning(refusal.path)
        self._told = set(refusals)

    def _tell_meaning(self, refused: Path) -> None:
        """Log what a name means as long as a newer version is refused."""
        name, version = refused.parent.name, refused.name
        served = self.repository.catalogue.models.get(name, {})
        if not VERSION.fullmatch(version) or int(version) in served:
            return
        if not served:
            log.warning("no version of '%s' can be served", name)
        elif int(version) > max(served):
            log.warning("'%s' means version %d, not the newer %s", name, max(served), version)

    def find(self, asked: str) -> tuple[Model, AnyEngine]:
        """The model that a request means, and its engine.

        Raises:
            Unavailable: the models are still being loaded.
            NotFound, InvalidArgument: see Catalogue.find.
        """
        if self._served is None:
            raise Unavailable("the models are still being loaded; try again")
        return self._served.find(asked)

    def take(self, asked: str) -> tuple[Model, AnyEngine]:
        """As `find`, and the engine stays until `give_back`, whatever happens to the model."""
        with self._lock:
            model, engine = self.find(asked)
            self._users[engine] += 1
        return model, engine

    def give_back(self, engine: AnyEngine) -> None:
        """What was taken is not needed any more."""
        with self._lock:
            self._users[engine] -= 1
            if self._served is None or engine.session not in self._served.engines:
                self._end_if_unused(engine)

    def models(self) -> list[Model]:
        """All of them, by name, then by version."""
        return self._served.catalogue.list() if self._served else []

    def served(self) -> list[tuple[Model, AnyEngine]]:
        """The models that are served, each with its engine, all of one moment."""
        if (served := self._served) is None:
            return []
        return [(model, served.engines[model.session]) for model in served.catalogue.list()]

    @property
    def refusals(self) -> int:
        """How many things of the repository were refused at the last look."""
        return len(self._told)

    @property
    def pressure(self) -> float:
        """That of the engine that is nearest to refusing calls, 0 to 1."""
        return max((engine.admission.pressure for _, engine in self.served()), default=0.0)

    def running(self) -> list[AnyEngine]:
        """Every engine that has calls or may get some, those of retired models too."""
        return list(self._begun.values())

    def give_up(self) -> None:
        """Start no more engines: the server is to end before it has begun."""
        self._is_given_up = True

    @property
    def is_loading(self) -> bool:
        """Whether a version is just being loaded, which nothing can interrupt."""
        return self._loading.locked()

    def stop(self) -> None:
        """Let every engine finish what it has, and end it."""
        self.give_up()
        is_over = self._loading.acquire(timeout=LAST_LOAD)
        for engine in self.running():
            engine.stop()
        self.engines.stop()
        if is_over:
            self._loading.release()
