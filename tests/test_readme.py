"""What the README says can be typed in."""

import re
import shlex

import click
import pytest

from serving.cli import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LINES = [
    line.strip().removeprefix("$ ")
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = [line for line in LINES if line.startswith("makemore ")]
TARGETS = [line for line in LINES if line.startswith("make ")]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 5
    assert {"make demo", "make test"} <= set(TARGETS)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_commands_flags_are_flags_that_it_has(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("line", TARGETS)
def test_a_make_target_and_its_variables_are_in_the_makefile(line: str) -> None:
    _, target, *settings = shlex.split(line, comments=True)
    assert re.search(rf"^{target}:.*## ", MAKEFILE, re.MULTILINE)
    for setting in settings:
        assert re.search(rf"^{setting.partition('=')[0]} =", MAKEFILE, re.MULTILINE)


def test_every_target_is_in_the_help_and_the_help_comes_first() -> None:
    listed = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    wanted = "help demo train export serve generate test check lint proto clean"
    assert set(wanted.split()) <= set(listed)
    assert ".DEFAULT_GOAL := help" in MAKEFILE


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_a_link_leads_to_a_file(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_python_example_prints_names(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(example.replace("127.0.0.1:50051", address), {})
    assert re.fullmatch(r"(em[a-z]* -\d+\.\d+\n){10}", capsys.readouterr().out)
