from hypothesis import given
from hypothesis import strategies as st

from serving.quoting import LONGEST, is_control, printable, quoted, without_controls

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


def test_text_of_a_model_is_shown_as_it_is_without_what_steers_a_terminal() -> None:
    assert without_controls("می\u200cخواهم, naïve\u00a0日本") == "می\u200cخواهم, naïve\u00a0日本"
    shown = without_controls(HOSTILE)
    assert "forged\\r\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\u202egnp.exe\\u2028" in shown
    assert not any(map(is_control, shown))
