import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from makemore.v1 import generation_service_pb2 as pb
from serving.cli import COMMANDS, main
from serving.config import parse_size
from serving.errors import InvalidArgument
from serving.quoting import is_control


def test_every_command_has_help_and_its_line_in_the_list() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    for name in COMMANDS:
        assert f"  {name} " in listed
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_help_imports_none_of_the_heavy_packages() -> None:
    program = (
        "import sys\n"
        "from serving.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'grpc', 'onnx', 'trainer', 'rich'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_container_that_still_starts_ends_on_sigterm() -> None:
    """Process 1 is spared what has no handler, as the server has none before it is imported."""
    program = (
        "import os, signal, time\n"
        "from serving.cli import end_on_sigterm\n"
        "process, os.getpid = os.getpid(), lambda: 1\n"
        "end_on_sigterm()\n"
        "os.kill(process, signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_missing_package_is_told_with_the_extra_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "trainer.cli.export", raising=False)
    monkeypatch.setitem(sys.modules, "trainer.export.export", None)
    result = CliRunner().invoke(main, ["export"])
    assert result.exit_code == 1
    assert "pip install 'makemore[train]'" in result.output


def test_generate_prints_strings_one_a_line(address: str) -> None:
    asked = ["generate", "--address", address, "--prefix", "em", "-n", "5", "--seed", "1"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("em") for line in lines)
    assert CliRunner().invoke(main, asked).output == result.output


def test_flags_can_be_given_as_environment_variables(address: str) -> None:
    environment = {"MAKEMORE_GENERATE_ADDRESS": address, "MAKEMORE_GENERATE_N": "3"}
    result = CliRunner(env=environment).invoke(main, ["generate"])
    assert (result.exit_code, len(result.output.splitlines())) == (0, 3)


def test_generate_says_plainly_when_no_server_is_running() -> None:
    result = CliRunner().invoke(main, ["generate", "--address", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no server answers at 127.0.0.1:1" in result.output
    assert "makemore serve" in result.output


def test_a_bad_argument_is_one_line_and_status_2(address: str) -> None:
    result = CliRunner().invoke(main, ["generate", "--address", address, "--prefix", "E"])
    assert result.exit_code == 2
    assert result.output.startswith("error: prefix: the character 'E'")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["generate", "top"])
def test_no_strings_at_all_are_not_asked_for(command: str) -> None:
    """In the API 0 is as good as unset, and would give what nobody meant."""
    result = CliRunner().invoke(main, [command, "--address", "127.0.0.1:1", "-n", "0"])
    assert result.exit_code == 2
    assert "'-n': 0 is not in the range x>=1" in result.output


def test_generate_keeps_constraints_and_tells_all_as_json(address: str, tmp_path: Path) -> None:
    (tmp_path / "taken.txt").write_text("anna\nada\n", encoding="utf-8")
    asked = [
        "generate", "--address", address, "--prefix", "a", "-n", "20", "--seed", "1", "--unique", "--novel",
        "--pattern", "a[a-z]{1,5}", "--forbid", "nn", "--forbid", "x", "--suffix", "a", "--complete",
        "--exclude", str(tmp_path / "taken.txt"), "--max-attempts", "1000", "--json",
    ]  # fmt: skip
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.output.splitlines()]
    texts = [sample["text"] for sample in found]
    assert len(set(texts)) == 20
    assert all(re.fullmatch("a[a-z]{0,4}a", text) and "nn" not in text for text in texts)
    assert all(sample["finishReason"] == "FINISH_REASON_END" for sample in found)


def test_generate_says_why_there_are_fewer(address: str) -> None:
    asked = ["generate", "--address", address, "-n", "9", "--pattern", "ab?", "--unique"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0
    assert result.stdout.splitlines() in (["a", "ab"], ["ab", "a"])
    assert "there are no more such strings" in result.stderr


def test_generate_of_much_is_a_stream_that_can_go_on(address: str) -> None:
    asked = ["generate", "--address", address, "-n", "1500", "--seed", "3"]
    whole = CliRunner().invoke(main, asked).output.splitlines()
    assert len(whole) == 1500
    rest = CliRunner().invoke(main, [*asked, "--start-index", "1400"]).output.splitlines()
    assert rest == whole[1400:]


def test_score_prints_a_line_a_string_and_a_histogram(address: str) -> None:
    result = CliRunner().invoke(main, ["score", "--address", address, "-"], input="anna\nzzz\nA\n")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["anna", "zzz", "A"]
    assert "unknown character" in lines[2]
    assert "bits a character of 2 strings" in result.stderr
    assert result.stderr.count("#") > 50
    as_json = CliRunner().invoke(
        main, ["score", "--address", address, "--json", "-"], input="anna\n"
    )
    assert json.loads(as_json.stdout)["status"] == "SCORE_STATUS_OK"


def test_next_prints_the_likeliest_characters(address: str) -> None:
    result = CliRunner().invoke(main, ["next", "--address", address, "em", "", "--top", "3"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 8
    assert re.search(r"^  (\w|end) +\d+\.\d\d %$", result.output, re.MULTILINE)


def test_top_prints_the_likeliest_strings(address: str) -> None:
    asked = ["top", "--address", address, "--prefix", "a", "-n", "3", "--max-length", "5"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0
    shares = [float(line.split()[0]) for line in result.stdout.splitlines()]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    as_json = json.loads(CliRunner().invoke(main, [*asked, "--json"]).output)
    assert as_json["complete"] is True


@pytest.mark.parametrize(("text", "size"), [("64MiB", 64 << 20), ("0", 0), ("3 KiB", 3072)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size("prefix_cache", text) == size


@pytest.mark.parametrize("text", ["", "64MB", "-1", "x", "1.5MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="64MiB"):
        parse_size("prefix_cache", text)


class HostileClient:
    """What a server of somebody else may answer."""

    text = "a\x1b]0;title\x07\x9b2J\u202eb"

    def generate(self, *arguments: Any, **settings: Any) -> pb.GenerateResponse:
        return pb.GenerateResponse(samples=[pb.Sample(text=self.text)])

    def next_characters(self, *arguments: Any, **settings: Any) -> list[pb.NextDistribution]:
        return [pb.NextDistribution(characters=[pb.NextCharacter(character="\x1b")])]

    def list_top_strings(self, *arguments: Any, **settings: Any) -> pb.ListTopStringsResponse:
        return pb.ListTopStringsResponse(strings=[pb.TopString(text=self.text)])


@pytest.mark.parametrize("arguments", [["generate"], ["next", "a"], ["top"]])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_nothing_that_a_server_answers_steers_the_terminal(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], flags: list[str]
) -> None:
    @contextmanager
    def connected(address: str, timeout: float) -> Iterator[HostileClient]:
        yield HostileClient()

    monkeypatch.setattr(f"serving.cli.{arguments[0]}.connected", connected)
    result = CliRunner().invoke(main, [*arguments, *flags])
    assert result.exit_code == 0, result.output
    assert "1b" in result.output
    assert not any(map(is_control, result.output.replace("\n", "")))
    if flags:
        assert "\\x1b" in repr(json.loads(result.stdout))
