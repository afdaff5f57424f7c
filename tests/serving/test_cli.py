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
from serving.client import Client
from serving.config import parse_size
from serving.errors import InvalidArgument
from serving.quoting import control_character


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
    assert result.output.startswith("error: --prefix: the character 'E'")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["generate", "top"])
def test_no_strings_at_all_are_not_asked_for(command: str) -> None:
    """In the API 0 is as good as unset, and would give what nobody meant."""
    result = CliRunner().invoke(main, [command, "--address", "127.0.0.1:1", "-n", "0"])
    assert result.exit_code == 2
    assert "'-n': 0 is not in the range 1<=x<=" in result.output


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


@pytest.mark.parametrize("n", ["5", "1500"])
@pytest.mark.parametrize("seed", [[], ["--seed", str(2**64 - 1)], ["--seed", "0"]])
def test_generate_shows_the_model_and_seed_that_give_its_strings_again(
    address: str, n: str, seed: list[str]
) -> None:
    asked = ["generate", "--address", address, "-n", n, "--model", "bigram"]
    shown = CliRunner().invoke(main, [*asked, *seed, "--show-seed"])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == int(n)
    match = re.fullmatch(r"model (bigram@1), seed (\d+)\n", shown.stderr)
    assert match is not None
    if seed:
        assert match[2] == seed[1]
    again = [*asked, "--model", match[1], "--seed", match[2]]
    assert CliRunner().invoke(main, again).stdout == shown.stdout
    assert CliRunner().invoke(main, again).stderr == ""


@pytest.mark.parametrize("n", ["5", "1500"])
def test_every_line_of_json_has_the_model_and_seed_that_give_it_again(address: str, n: str) -> None:
    asked = ["generate", "--address", address, "-n", n, "--json"]
    result = CliRunner().invoke(main, asked)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == int(n)
    (model,) = {line["model"] for line in lines}
    (seed,) = {line["seed"] for line in lines}
    assert model == "lstm@1"
    assert seed < 2**53
    again = CliRunner().invoke(main, [*asked, "--model", model, "--seed", str(seed)])
    assert again.stdout == result.stdout


def test_generate_shows_the_seed_where_no_string_fits(address: str) -> None:
    asked = ["generate", "--address", address, "--pattern", "zzz[a-z]{3}", "--exact", "--show-seed"]
    result = CliRunner().invoke(main, [*asked, "--max-attempts", "1"])
    assert re.search(r"^model lstm@1, seed \d+$", result.stderr, re.MULTILINE)
    assert "fewer than asked for" in result.stderr


def test_score_of_lines_that_fit_in_no_one_request_prints_them_all(
    address: str, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text(("\u00e9" * 300 + "\n") * 4096, encoding="utf-8")
    result = CliRunner().invoke(main, ["score", "--address", address, str(tmp_path / "long.txt")])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 4096


def test_a_line_that_fits_in_no_request_is_refused_for_good(address: str, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("anna\n" + "a" * 2**21 + "\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["score", "--address", address, str(tmp_path / "long.txt")])
    assert result.exit_code == 2
    assert result.output.startswith("error: texts[1]: has 2,097,157 bytes")
    assert "try again" not in result.output


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


def test_score_prints_each_characters_log_probability(address: str) -> None:
    asked = ["score", "--address", address, "--characters", "-"]
    result = CliRunner().invoke(main, asked, input="anna\nA\n")
    assert result.exit_code == 0
    score, characters, unknown = result.stdout.splitlines()
    found = re.findall(r"(\w+) (-\d+\.\d{3})", characters)
    assert [name for name, _ in found] == ["a", "n", "n", "a", "end"]
    assert sum(float(value) for _, value in found) == pytest.approx(
        float(score.split()[0]), abs=0.01
    )
    assert "unknown character" in unknown


def test_json_is_json_where_standard_output_is_not_utf8(address: str) -> None:
    runner = CliRunner(charset="latin-1")
    asked = ["score", "--address", address, "--json", "-"]
    result = runner.invoke(main, asked, input="日é😀\n".encode())
    assert result.exit_code == 0
    assert json.loads(result.stdout_bytes)["text"] == "日é😀"


@pytest.mark.parametrize("command", ["score", "next"])
def test_what_standard_output_cannot_encode_is_escaped(address: str, command: str) -> None:
    runner = CliRunner(charset="latin-1")
    given = ["-"] if command == "score" else ["a", "--top", "1"]
    result = runner.invoke(main, [command, "--address", address, *given], input="日é\n".encode())
    assert result.exit_code == 0
    if command == "score":
        assert result.stdout.endswith("\\u65e5é\n")


def test_what_a_server_sends_does_not_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    sent = pb.GenerateResponse(samples=[pb.Sample(text="a\x1b[2J\nb\u202e")])
    monkeypatch.setattr(Client, "generate", lambda *_, **__: sent)
    asked = ["generate", "--address", address, "-n", "1"]
    assert CliRunner().invoke(main, asked).stdout == "a\\x1b[2J\\nb\\u202e\n"
    as_json = CliRunner().invoke(main, [*asked, "--json"]).stdout
    assert "\u202e" not in as_json
    assert json.loads(as_json)["text"] == "a\x1b[2J\nb\u202e"


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
    assert control_character(result.output.replace("\n", "")) is None
    if flags:
        assert "\\x1b" in repr(json.loads(result.stdout))
