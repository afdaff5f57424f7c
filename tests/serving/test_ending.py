"""How commands end that fail: one line, with the names that a person typed."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from serving.cli import COMMANDS, main
from serving.cli.ending import print_anything, with_flags
from serving.errors import InvalidArgument, MakemoreError, NotFound
from tests.conftest import COMMITTED

FULL = Path("/dev/full")


def run(*arguments: str, stdout: int | None = None, **environment: str) -> tuple[int, str]:
    """The status of the program, and what it prints on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_short_help(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = main.get_command(click.Context(main), name)
    # Click keeps the option of whoever asked first, as tests do that use a command without its group.
    monkeypatch.setattr(command, "_help_option", None, raising=False)
    short, long = (CliRunner().invoke(main, [name, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.output == long.output
    assert "-h, --help" in short.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--bogus"], "error: no such option '--bogus'; see makemore --help"),
        (["bogus"], "error: no such command 'bogus'; see makemore --help"),
        (["generate", "--bogus"], "error: no such option '--bogus'; see makemore generate --help"),
        (
            ["generate", "-n", "x"],
            "error: invalid value for '-n': 'x' is not a valid integer range",
        ),
        (["score"], "error: missing argument 'FILE'; see makemore score --help"),
        (["alias", "a", "b"], "error: give a VERSION, or --remove; see makemore alias --help"),
        (["generate", "--\x1b[31m"], "error: no such option '--\\x1b[31m'"),
    ],
)
def test_a_usage_error_is_one_line_of_the_same_form(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(main, arguments, prog_name="makemore")
    assert result.exit_code == 2
    assert result.output.startswith(line)
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["serve", "--max-queue", "-1"], "--max-queue: must be a number from"),
        (["serve", "--prefix-cache", "1XB"], "--prefix-cache: '1XB' is no size"),
        (["serve", "--tls-key", "key.pem"], "--tls-key: and --tls-certificate are given together"),
        (["serve", "--metrics-listen", "x"], "--metrics-listen: 'x' is not host:port"),
        (["serve", "--workers", "0"], "--workers: must be from 1"),
        (["generate", "--timeout", "-1"], "--timeout: must be a number"),
        (["generate", "--tls-certificate", "x", "--tls-key", "y"], "--tls-ca: is needed where"),
        (["status", "--interval", "0"], "--interval: must be a number"),
        (["train", "--split", "1/2"], "--split: '1/2' is not of the form"),
        (["health", "--service", "a\udce9"], "invalid value for '--service': it is not UTF-8"),
        (["serve", "--listen", "a\udce9:1"], "invalid value for '--listen': it is not UTF-8"),
        (["generate", "--forbid", "a\udce9"], "invalid value for '--forbid': it is not UTF-8"),
        (["next", "a\udce9"], "invalid value for 'PREFIXES...': it is not UTF-8"),
        (["generate", "--top-k", "9999999999"], "invalid value for '--top-k': 9,999,999,999 is"),
        (["generate", "--seed", "-1"], "invalid value for '--seed': -1 is not from 0 to"),
        (["inspect", "missing"], "DATA: missing: there is no such file"),
    ],
)
def test_a_setting_is_named_as_its_flag(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {line}")
    assert result.output.count("\n") == 1


def test_a_setting_from_the_environment_is_named_as_its_flag() -> None:
    result = CliRunner(env={"MAKEMORE_SERVE_MAX_QUEUE": "-1"}).invoke(main, ["serve"])
    assert result.output.startswith("error: --max-queue: must be a number from")


def test_letters_of_other_scripts_are_arguments_in_any_locale() -> None:
    status, line = run(
        "serve", "--listen", "கொ", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert status == 2
    assert line.startswith("error: --listen: 'கொ' is not host:port")


GENERATE = main.get_command(click.Context(main), "generate")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("n", "-n"),
        ("prefix", "--prefix"),
        ("sampling.temperature", "--temperature"),
        ("request.sampling.seed", "--seed"),
        ("constraints.pattern", "--pattern"),
        ("constraints.allowed_characters", "--allowed"),
        ("constraints.forbidden_substrings[3]", "--forbid, entry 4"),
        ("constraints.exclude[0]", "--exclude, entry 1"),
        ("constraints.max_attempts_per_sample", "--max-attempts"),
        ("constraints.unheard_of", "constraints.unheard_of"),
        ("other.pattern", "other.pattern"),
        ("request", "request"),
        ("page_token", "page_token"),
    ],
)
def test_a_field_is_named_as_the_option_that_sets_it(field: str, name: str) -> None:
    assert with_flags(InvalidArgument(field, "is wrong"), GENERATE) == f"{name}: is wrong"


def test_names_in_a_message_are_flags_unless_they_are_data() -> None:
    told = "needs max_length; 'max_length', a/max_length.txt and the pattern stay, max_rows too"
    kept = told.replace("needs max_length", "needs --max-length")
    assert with_flags(NotFound(told), GENERATE) == kept
    assert with_flags(MakemoreError(told), None) == told


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["models"], ["--help"], ["--version"], ["inspect", "names.txt"]]
)
def test_what_cannot_be_printed_is_one_line(
    names: Path, arguments: list[str], unbuffered: str
) -> None:
    arguments = [str(names) if a == "names.txt" else a for a in arguments]
    with FULL.open("wb") as full:
        status, line = run(*arguments, stdout=full.fileno(), PYTHONUNBUFFERED=unbuffered)
    assert (status, line) == (
        1,
        "error: standard output cannot be written: No space left on device\n",
    )


def test_a_pipe_that_is_closed_ends_a_command_quietly(names: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run("inspect", str(names), stdout=writer) == (1, "")
    finally:
        os.close(writer)


def test_a_command_does_without_standard_error() -> None:
    with FULL.open("wb") as full:
        command = [sys.executable, "-m", "serving", "inspect", "missing"]
        done = subprocess.run(command, stderr=full, stdout=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stdout) == (2, b"")


def test_other_failures_of_files_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("elsewhere")

    monkeypatch.setattr("serving.cli.score.read_lines", broken)
    result = CliRunner().invoke(main, ["score", str(COMMITTED)])
    assert isinstance(result.exception, OSError)
    assert result.exception.args == ("elsewhere",)


def test_a_command_runs_without_any_standard_stream(tmp_path: Path) -> None:
    """As a service manager, or `>&-` in a shell, starts it; what is printed is lost, and no more."""
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"name{number}" for number in range(40)), encoding="utf-8")
    run = tmp_path / "run"
    closed = "os.close(0); os.close(1); os.close(2); os.execv(sys.argv[1], sys.argv[1:])"
    command = ["train", "--model", "bigram", "--data", str(lines), "--run", str(run)]
    program = [sys.executable, "-c", f"import os, sys; {closed}", sys.executable]
    done = subprocess.run([*program, "-m", "serving", *command], timeout=120)
    assert done.returncode == 0
    assert (run / "report.html").exists()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_stream_that_is_closed_is_replaced(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(sys, name, None)
    print_anything()
    stream = getattr(sys, name)
    assert stream.encoding == "utf-8"  # as the options `--json` ask
    assert not stream.isatty()
    stream.close()
