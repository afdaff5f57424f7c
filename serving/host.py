"""The models that are being served, each with an engine that runs."""

import logging

from serving.engine.admission import MAX_QUEUE
from serving.engine.engine import PREFIX_CACHE, Engine
from serving.errors import NotFound, Unavailable
from serving.repository import Model, Repository

log = logging.getLogger(__name__)


class Host:
    """Every model of a repository, warmed up.

    Args:
        repository: read by `start`.
        max_rows: strings that each engine runs at once.
        prefix_cache: bytes that each engine's prefix tree may take.
        max_queue: seconds of work that may wait for each engine.
    """

    def __init__(
        self,
        repository: Repository,
        max_rows: int,
        prefix_cache: int = PREFIX_CACHE,
        max_queue: float = MAX_QUEUE,
    ) -> None:
        self.repository = repository
        self.max_rows = max_rows
        self.prefix_cache = prefix_cache
        self.max_queue = max_queue
        self._engines: dict[str, Engine] = {}
        self._is_ready = False
        self._is_given_up = False

    def start(self) -> None:
        """Load the repository and start an engine a model; what fails is refused and logged.

        Raises:
            NotFound: no model is left, or the default is not among them.
        """
        self.repository.load()
        for model in self.repository.list():
            if self._is_given_up:
                return
            self._start_engine(model)
        for refusal in self.repository.refusals:
            log.warning("refused %s: %s", refusal.path, refusal.reason)
        if not self._engines:
            raise NotFound(f"{self.repository.path} has no model that can be served")
        if self.repository.default:
            self.repository.find("")
        self._is_ready = True

    def _start_engine(self, model: Model) -> None:
        try:
            engine = Engine(model.session, self.max_rows, self.prefix_cache, self.max_queue)
            engine.start()
        except Exception as error:  # the runtime raises many kinds
            self.repository.refuse(model.folder, f"the first step fails: {error}")
        else:
            self._engines[model.full_name] = engine

    def find(self, asked: str) -> tuple[Model, Engine]:
        """The model that a request means, and its engine.

        Raises:
            Unavailable: the models are still being loaded.
            NotFound, InvalidArgument: see Repository.find.
        """
        if not self._is_ready:
            raise Unavailable("the models are still being loaded; try again")
        model = self.repository.find(asked)
        return model, self._engines[model.full_name]

    def models(self) -> list[Model]:
        """All of them, by name, then by version."""
        return self.repository.list() if self._is_ready else []

    def give_up(self) -> None:
        """Start no more engines: the server is to end before it has begun."""
        self._is_given_up = True

    def stop(self) -> None:
        """Let every engine finish what it has, and end it."""
        for engine in self._engines.values():
            engine.stop()
