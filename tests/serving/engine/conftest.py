from collections.abc import Iterator

import pytest

from serving.engine.engine import Engine
from serving.testing import FakeSession


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(FakeSession(), max_rows=7)
    engine.start()
    yield engine
    engine.stop()
