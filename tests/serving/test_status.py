"""`makemore status`."""

import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from serving.cli import main
from serving.cli.status import duration, seconds
from serving.client import Client
from tests.serving.observe.asking import observed


@pytest.fixture(scope="module")
def metrics() -> Iterator[str]:
    """Where a server that was called tells its metrics."""
    with observed() as (server, address), Client(f"127.0.0.1:{server.port}") as client:
        client.generate("em", 10)
        yield address


def status(*flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["status", *flags], env={"COLUMNS": "140"})
    return result.exit_code, result.output


def test_one_look_tells_of_servers_models_and_calls(metrics: str) -> None:
    code, output = status("--metrics", metrics, "--once")
    assert code == 0
    (server,) = [line for line in output.splitlines() if metrics in line]
    assert " ready " in server
    (model,) = [line for line in output.splitlines() if "names@2" in line]
    assert "lstm" in model
    assert "0/512" in model
    (method,) = [line for line in output.splitlines() if "Generate" in line]
    assert "ms" in method


def test_it_looks_again_until_it_is_stopped_even_while_nobody_answers(
    metrics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([None, None, "stop"])

    def sleep(interval: float) -> None:
        assert interval == 0.5
        if next(looks):
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    code, output = status("--metrics", metrics, "--interval", "0.5")
    assert code == 0
    assert "in the last" in output


def test_several_servers_have_a_line_each_and_their_sum(metrics: str) -> None:
    other = metrics.replace("127.0.0.1", "localhost")
    code, output = status("--metrics", metrics, "--metrics", other, "--once")
    assert code == 0
    assert metrics in output
    assert other in output
    assert "0/1,024" in output


def test_a_server_that_does_not_answer_hides_none_of_the_others(metrics: str) -> None:
    code, output = status("--metrics", "127.0.0.1:1", "--metrics", metrics, "--once")
    assert code == 0
    assert "no metrics at 127.0.0.1:1" in output
    assert "0/512" in output


def test_where_no_server_is_it_says_so_in_one_line() -> None:
    code, output = status("--metrics", "127.0.0.1:1", "--once")
    assert code == 1
    assert output.startswith("error: no metrics at 127.0.0.1:1")
    assert len(output.splitlines()) == 1


def test_an_interval_out_of_range_is_refused_by_name() -> None:
    assert status("--interval", "0") == (
        2,
        "error: --interval: must be a number from 0.1 to 3600, not 0.0\n",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (2.5, "2.5 s"), (0.0123, "12.3 ms"), (0.00005, "50 us"), (0.0, "0 us")],
)
def test_short_times_have_a_unit_that_suits_them(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 s"), (59, "59 s"), (754, "12 min 34 s"), (273600, "3 d 4 h")]
)
def test_long_times_have_two_units(value: float, text: str) -> None:
    assert duration(value) == text
