"""The operator's list: what it forbids, when it is refused, and which entries are reported."""

import itertools
import logging
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.config import ServerConfig
from serving.constraints import automaton as automata
from serving.constraints.automaton import Rules, everything_without, intersection
from serving.constraints.masks import Bounds
from serving.constraints.pattern import TooComplex
from serving.engine.engines import LocalEngines
from serving.errors import InvalidArgument
from serving.forbidden import MAX_WARNINGS, ForbiddenList
from serving.host import Host
from serving.manifest import Manifest
from serving.repository import Repository
from serving.text_files import Line
from tests.serving.graphs import manifest, model_bytes, publish

ALPHABET = tuple("abc")
FILE = Path("words.txt")
EVERY = ["".join(text) for n in range(6) for text in itertools.product(ALPHABET, repeat=n)]


def listed(*texts: str) -> ForbiddenList:
    return ForbiddenList([Line(number, text) for number, text in enumerate(texts, 1)], FILE)


def accepted(automaton: automata.Automaton) -> list[str]:
    bounds = Bounds(automaton, 0, 5)
    ids = {text: [ALPHABET.index(c) + 1 for c in text] for text in EVERY}
    return [text for text in EVERY if bounds.accepts(ids[text])]


words = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8)


@settings(deadline=None)  # the machine may be busy
@given(words)
def test_a_text_is_accepted_if_it_has_no_entry_in_it(entries: list[str]) -> None:
    wanted = [text for text in EVERY if not any(entry in text for entry in entries)]
    assert accepted(everything_without(entries, ALPHABET)) == wanted


@settings(deadline=None)  # the machine may be busy
@given(words, st.sampled_from(["", "a.*", "(ab|c)*", ".*b.?", "[^c]{2,4}", "(a|b)*a(a|b){2}"]))
def test_an_intersection_accepts_what_both_accept(entries: list[str], pattern: str) -> None:
    left, right = Rules(pattern).compile(ALPHABET), everything_without(entries, ALPHABET)
    both = intersection(left, right)
    assert accepted(both) == [text for text in accepted(left) if text in accepted(right)]
    alone = Rules(pattern, forbidden_substrings=tuple(entries)).compile(ALPHABET)
    assert accepted(both) == accepted(alone)
    assert len(both.next) == len(alone.next)


def test_an_intersection_that_would_be_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, right = Rules(".{200}").compile(ALPHABET), everything_without(["abcab"], ALPHABET)
    assert len(intersection(left, right).next) > 400
    monkeypatch.setattr(automata, "MAX_CELLS", 1000)
    with pytest.raises(TooComplex, match="more than 250 states"):
        intersection(left, right)


def test_a_list_of_ten_thousand_words_is_compiled_without_the_callers_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has more states than a caller's rules may have, and takes as long as it takes."""
    monkeypatch.setattr(time, "thread_time", itertools.count().__next__)  # a second a look
    letters = "abcdefghij"
    texts = [f"{number:04}" for number in range(10_000)]
    texts = ["".join(letters[int(digit)] for digit in text) + "klmnop" for text in texts]
    alphabet = tuple("abcdefghijklmnop")
    words = listed(*texts)
    words.compile("names@1", manifest(alphabet=alphabet))
    automaton = words.automaton(alphabet)
    assert automaton is not None
    assert len(automaton.next) > automata.MAX_STATES
    for text in texts[::999]:
        ids = [alphabet.index(character) + 1 for character in text]
        assert automaton.run(ids) == len(automaton.next)
        assert automaton.run(ids[:-1]) < len(automaton.next)


def test_a_list_that_leaves_no_string_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidArgument, match=r"words\.txt leaves no string .* model names@7") as e:
        listed("b", "x", "a").compile("names@7", manifest())
    assert e.value.field == "--forbidden"
    listed("b", "x", "aa").compile("names@7", manifest())


@pytest.mark.parametrize(("name", "value"), [("MAX_LIST_STATES", 3), ("MAX_LIST_CELLS", 8)])
def test_a_list_that_is_too_large_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(automata, name, value)
    with pytest.raises(
        InvalidArgument, match=r"words\.txt is too large .* model names@7: it needs"
    ):
        listed("abab", "x").compile("names@7", manifest())


def test_a_list_without_an_entry_that_can_match_costs_nothing() -> None:
    words = listed("A", "xa")
    words.compile("names@1", manifest())
    assert words.automaton(("a", "b")) is None


def test_what_was_compiled_for_an_alphabet_is_kept_as_long_as_it_is_served() -> None:
    words = listed("aa", "xx")
    for alphabet in (("a", "b"), ("x", "y")):
        words.compile("names@1", manifest(alphabet=alphabet))
    words.retain({("x", "y")})
    assert words.automaton(("x", "y")) is not None
    with pytest.raises(KeyError):
        words.automaton(("a", "b"))


def warnings(
    caplog: pytest.LogCaptureFixture, words: ForbiddenList, *served: Manifest
) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        words.warn(served)
    return [record.getMessage() for record in caplog.records]


def test_entries_that_cannot_match_are_reported_by_line(caplog: pytest.LogCaptureFixture) -> None:
    lines = [(1, "Ab"), (3, "ab"), (4, "a\u00e9"), (7, "ax"), (9, "ababab"), (10, "y")]
    words = ForbiddenList([Line(*line) for line in lines], FILE)
    models = manifest(), manifest(alphabet=("x", "y"))
    assert warnings(caplog, words, *models) == [
        "words.txt, line 1: 'Ab' cannot match: no served model has the character 'A' (U+0041, LATIN "
        "CAPITAL LETTER A); 'ab' would match",
        "words.txt, line 4: 'aé' cannot match: no served model has the character 'é' (U+00E9, LATIN "
        "SMALL LETTER E WITH ACUTE)",
        "words.txt, line 7: 'ax' cannot match: no served model has all of its characters",
        "words.txt, line 9: 'ababab' cannot match: no served model makes strings of 6 characters",
    ]
    assert warnings(caplog, words, *models) == []  # nothing has changed
    more = warnings(caplog, words, *models, manifest(alphabet=tuple("Abx"), max_length=6))
    assert len(more) == 3


def test_of_many_entries_that_cannot_match_only_some_are_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = warnings(caplog, listed(*map(str, range(100))), manifest())
    assert len(found) == MAX_WARNINGS + 1
    assert found[-1] == f"words.txt: {100 - MAX_WARNINGS} more entries cannot match"


def host_of(repository: Path, words: ForbiddenList) -> Host:
    engines = LocalEngines(ServerConfig(repository, max_rows=8))
    return Host(Repository(repository), engines, words)


def test_a_server_does_not_start_with_a_list_that_leaves_a_model_no_string(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    publish(tmp_path, model_bytes(manifest(alphabet=("x", "y"))), version=2)
    host = host_of(tmp_path, listed("x", "y"))
    with pytest.raises(InvalidArgument, match=r"^--forbidden: words\.txt leaves .* model good@2"):
        host.start()
    host.stop()


def test_a_version_that_the_list_leaves_no_string_is_refused_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, model_bytes())
    words = listed("x", "y", "aa")
    host = host_of(tmp_path, words)
    host.start()
    publish(tmp_path, model_bytes(manifest(alphabet=("x", "y"))), version=2)
    with caplog.at_level(logging.WARNING):
        host.reload()
    assert [model.full_name for model in host.models()] == ["models/good@1"]
    assert any(
        "good/2" in record.getMessage() and "--forbidden: words.txt" in record.getMessage()
        for record in caplog.records
    )
    publish(tmp_path, model_bytes(manifest(alphabet=("x", "z"))), version=3)
    host.reload()
    assert [model.version for model in host.models()] == [1, 3]
    assert words.automaton(("x", "z")) is not None
    host.stop()


def test_an_empty_entry_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^forbidden: has an empty entry"):
        ServerConfig(Path(), forbidden=(Line(1, "a"), Line(2, "")))
