"""Every variable that the image sets, or its documentation names, is a flag."""

import re

import click
import pytest

from serving.cli import main
from tests.conftest import ROOT

PLACES = ("serving/Containerfile", "docs/deployment.md")


def flags(command: str) -> set[str]:
    """The variables that a command reads."""
    found = main.get_command(click.Context(main), command)
    assert found is not None
    return {f"MAKEMORE_{command}_{parameter.name}".upper() for parameter in found.params}


@pytest.mark.parametrize("place", PLACES)
def test_a_variable_is_a_flag_of_a_command(place: str) -> None:
    named = set(re.findall(r"MAKEMORE_[A-Z_]+", (ROOT / place).read_text(encoding="utf-8")))
    assert len(named) >= 5
    assert named <= flags("serve") | flags("health")
