from pathlib import Path

from click.testing import CliRunner

from serving.cli import main
from trainer.data.inspection import inspect, is_odd, report
from trainer.data.lines import read_lines


def test_all_that_is_in_a_file_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Anna\nanna\nan na\n\nanna\nJean-Luc\nO'Neil\n5%\n", encoding="utf-8")
    found = inspect(read_lines(path))
    assert (found.lines, found.distinct, found.blank) == (7, 6, 1)
    assert found.lengths == {4: 2, 5: 1, 8: 1, 6: 1, 2: 1}
    assert found.alphabet["n"] == 7
    assert found.odd == ("%",)
    assert found.alike == (("Anna", "anna", "an na"),)
    text = report(found)
    assert "7 lines, 6 distinct, 1 repeats, 1 blank" in text
    assert "'%' (U+0025, PERCENT SIGN)" in text
    assert "Anna | anna | an na" in text


def test_letters_of_any_script_are_not_odd() -> None:
    assert not any(map(is_odd, "aéяשあ字5 -'\u2019"))
    assert all(map(is_odd, "%_/@.\u200d"))


def test_the_command_prints_it(names: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(names)])
    assert result.exit_code == 0
    assert result.output.startswith("1,000 lines, 1,000 distinct")
    missing = CliRunner().invoke(main, ["inspect", "missing.txt"])
    assert missing.exit_code == 2
