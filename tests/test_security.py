"""SECURITY.md names files that there are and flags that the commands have."""

import re

import pytest

from serving.cli import main
from tests.conftest import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:serving|tests|proto)/[\w./-]+)`", TEXT)))
FLAGS = sorted(set(re.findall(r"`(--[a-z-]+)`", TEXT)))


def test_there_is_something_to_look_at() -> None:
    assert len(PATHS) > 20
    assert "--token-file" in FLAGS


@pytest.mark.parametrize("path", PATHS)
def test_what_is_said_to_do_it_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_is_one_that_serve_has(flag: str) -> None:
    command = main.get_command(None, "serve")  # type: ignore[arg-type]
    assert command is not None
    assert any(flag in parameter.opts for parameter in command.params)
