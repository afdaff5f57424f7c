"""Records are one line each, or one JSON object, and tell which call they are about."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from serving.client import Client
from serving.config import ServerConfig
from serving.observe import notes
from serving.observe.config import ObserveConfig
from serving.observe.logs import HANDLER, configure
from serving.observe.writing import flush
from serving.testing import running
from tests.conftest import COMMITTED

HOSTILE = "a\nERROR: forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe\u2028\x00"
Configure = Callable[..., io.StringIO]


class Written(io.StringIO):
    """Has all that was logged when somebody looks."""

    def getvalue(self) -> str:
        flush()
        return super().getvalue()


@pytest.fixture
def logged() -> Iterator[Configure]:
    """Configures, and gives what is written from then on; all is as before after the test."""
    root = logging.getLogger()
    level = root.level

    def begin(**flags: Any) -> io.StringIO:
        stream = Written()
        worker = flags.pop("worker", False)
        configure(ObserveConfig(**flags), worker=worker, stream=stream)
        return stream

    yield begin
    for handler in [handler for handler in root.handlers if handler.get_name() == HANDLER]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def fail() -> None:
    raise ValueError(HOSTILE)


@pytest.mark.parametrize("is_exception", [False, True])
@pytest.mark.parametrize("is_structured", [False, True])
def test_a_record_begins_one_line_whatever_it_quotes(
    logged: Configure, is_exception: bool, is_structured: bool
) -> None:
    stream = logged()
    try:
        fail()
    except ValueError:
        if is_structured:
            log = structlog.stdlib.get_logger("test")
            log.warning("refused", path=HOSTILE, exc_info=is_exception)
        else:
            logging.getLogger("test").warning("refused %s", HOSTILE, exc_info=is_exception)
    first, *others = stream.getvalue().splitlines()
    assert first.startswith("WARNING: refused")
    assert first.isprintable()
    assert bool(others) == is_exception
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_values_are_quoted_where_they_could_be_taken_for_more(logged: Configure) -> None:
    stream = logged()
    structlog.stdlib.get_logger("test").info("call", plain="a/B", spaced="a b=c", none="", n=3)
    assert stream.getvalue() == "INFO: call plain=a/B spaced='a b=c' none='' n=3\n"


def test_json_has_an_object_a_line(logged: Configure) -> None:
    stream = logged(log_format="json")
    structlog.stdlib.get_logger("test").warning("refused", path=HOSTILE)
    try:
        fail()
    except ValueError:
        logging.getLogger("test").exception("broken")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["event"] == "refused"
    assert first["path"] == HOSTILE
    assert first["level"] == "warning"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first["timestamp"])
    assert "ValueError" in second["exception"]
    assert all(line.isprintable() for line in stream.getvalue().splitlines())


def test_what_is_below_the_level_is_left_out(logged: Configure) -> None:
    stream = logged(log_level="warning")
    logging.getLogger("test").info("little")
    logging.getLogger("test").warning("much")
    assert stream.getvalue() == "WARNING: much\n"


def test_configuring_again_takes_the_place_of_what_was(logged: Configure) -> None:
    first, second = logged(), logged()
    logging.getLogger("test").info("once")
    assert first.getvalue() == ""
    assert second.getvalue() == "INFO: once\n"


def test_workers_tell_which_they_are(logged: Configure) -> None:
    stream = logged(worker=True)
    logging.getLogger("test").info("here")
    assert re.fullmatch(r"INFO: here pid=\d+\n", stream.getvalue())


def test_a_record_tells_the_call_that_it_is_about(logged: Configure) -> None:
    stream = logged()

    async def call() -> None:
        notes.begin("mine", None)
        logging.getLogger("test").info("inside")

    asyncio.run(call())
    logging.getLogger("test").info("outside")
    assert stream.getvalue() == "INFO: inside request_id=mine\nINFO: outside\n"


@pytest.mark.parametrize("is_on", [False, True])
def test_calls_are_logged_if_it_is_asked_for(logged: Configure, is_on: bool) -> None:
    stream = logged(log_format="json", access_log=is_on)
    observe = ObserveConfig(access_log=is_on)
    with (
        running(ServerConfig(COMMITTED, "127.0.0.1:0", observe=observe)) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        client.generate("em", 1)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    access = [r for r in records if r["event"] == "call" and r["method"].endswith("/Generate")]
    assert len(access) == is_on
    for record in access:
        assert record["code"] == "OK"
        assert record["caller"] == "ipv4:127.0.0.1"
        assert record["model"] == "models/names@2"
        assert record["samples"] == 1
        assert record["seconds"] > 0
        assert record["request_id"]
