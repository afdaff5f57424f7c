import subprocess
import sys

import pytest
from click.testing import CliRunner

from serving.cli import COMMANDS, main


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
