"""A server with a bug in it, to see that a test finds it: `python -m tests.fault.planted BUG serve …`."""

import sys
from typing import Any

from serving.cli import main
from serving.host import Host


def mixed_up() -> None:
    """A call gets the newest model's name, and the engine of the one before."""
    take = Host.take
    engines: list[Any] = []

    def wrong(self: Host, asked: str) -> Any:
        model, engine = take(self, asked)
        if engine not in engines:
            engines.append(engine)
        other = engines[-2] if len(engines) > 1 and engines[-2] in self.running() else engine
        self._users[other] += 1
        self._users[engine] -= 1
        return model, other

    Host.take = wrong  # type: ignore[method-assign]


def hasty() -> None:
    """Engines end as soon as there are newer ones, whoever uses them."""
    end = Host._end_if_unused

    def wrong(self: Host, engine: Any) -> None:
        self._users[engine] = 0
        end(self, engine)

    Host._end_if_unused = wrong  # type: ignore[method-assign]


BUGS = {bug.__name__: bug for bug in (mixed_up, hasty)}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    main()
