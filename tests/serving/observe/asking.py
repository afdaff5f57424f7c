"""Looking at a server from outside, as Prometheus does."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from serving.config import ServerConfig
from serving.observe.config import ObserveConfig
from serving.server import Server
from serving.testing import running
from tests.conftest import COMMITTED

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(address: str, path: str) -> tuple[int, str]:
    """Status and text of a page."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            assert isinstance(answer, http.client.HTTPResponse)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Scrape:
    """What /metrics tells at one moment."""

    def __init__(self, address: str) -> None:
        status, text = page(address, "/metrics")
        assert status == 200
        self.families = {f.name: f for f in text_string_to_metric_families(text)}
        self.samples = [s for family in self.families.values() for s in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series that have these labels."""
        found = [
            s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()
        ]
        assert found, f"no {name}"
        return sum(found)


@contextmanager
def observed() -> Iterator[tuple[Server, str]]:
    """A server of the committed model, and where its metrics are."""
    observe = ObserveConfig(metrics_listen="127.0.0.1:0")
    with running(ServerConfig(COMMITTED, "127.0.0.1:0", "names", observe=observe)) as server:
        assert server.observation.endpoint is not None
        yield server, server.observation.endpoint.address
