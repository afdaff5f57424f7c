import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from serving.quoting import LONGEST, control_character, printable, quoted, shown, shown_json

HOSTILE = "a\nERROR: forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe\u2028\ud800\x00"


@given(st.text(st.characters()))
def test_what_is_made_printable_is_printable_and_stays_as_it_is(text: str) -> None:
    once = printable(text)
    assert once.isprintable()
    assert printable(once) == once
    assert (once == text) == text.isprintable()


def test_letters_of_all_scripts_are_kept() -> None:
    assert printable("naïve 日本 'x' \\") == "naïve 日本 'x' \\"


def test_a_kept_character_is_kept() -> None:
    assert printable("a\nb\tc", kept="\n") == "a\nb\\tc"


def test_a_quoted_value_is_short_and_its_escapes_are_told_from_its_backslashes() -> None:
    assert quoted("a\n") == r"'a\n'"
    assert quoted(r"a\n") == r"'a\\n'"
    assert len(quoted("x" * 10_000)) == LONGEST + 5


@given(st.text(st.characters()))
def test_what_is_shown_of_data_steers_no_terminal(text: str) -> None:
    found = shown(text)
    assert not {unicodedata.category(c) for c in found} & {"Cc", "Cs", "Zl", "Zp"}
    assert control_character(found) is None
    assert (found == text) == (control_character(text) is None)


def test_data_is_shown_as_it_is_in_every_script() -> None:
    data = "naïve 日\u3000本 می\u200cخواهم 👨\u200d👩 a\u00a0b :on: [red] \\ $x$"
    assert shown(data) == data
    assert shown(HOSTILE).isprintable()
    assert control_character("a\u202eb") == "the control character RIGHT-TO-LEFT OVERRIDE (U+202E)"


def test_json_that_is_shown_means_the_same() -> None:
    text = json.dumps({"text": HOSTILE, "日": "می\u200c"}, ensure_ascii=False)
    assert control_character(shown_json(text)) is None
    assert json.loads(shown_json(text)) == json.loads(text)
    assert "日" in shown_json(text)
