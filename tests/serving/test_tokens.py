import hashlib
from pathlib import Path

import pytest

from serving.errors import InvalidArgument
from serving.text_files import BOM
from serving.tokens import Tokens, read
from tests.serving.test_tls import spoil

ALICE, BOB, OLD = "a" * 32, "b-._~+/=" * 4, "old" * 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    digest = hashlib.sha256(BOB.encode()).hexdigest()
    path.write_text(f"# who may call\n\nalice {ALICE}\nbob\tsha256:{digest}\n alice {OLD} \n")
    return path


def test_a_token_is_its_callers_whether_it_stands_there_or_its_digest(path: Path) -> None:
    tokens = Tokens(path)
    assert [tokens.name_of(t) for t in (ALICE, BOB, OLD)] == ["alice", "bob", "alice"]


def test_nothing_else_is_anybodys(path: Path) -> None:
    tokens = Tokens(path)
    digest = path.read_text().split()[-3]
    for token in ("", "alice", ALICE[:-1], ALICE + "a", ALICE.upper(), digest, "\ud800", "é"):
        assert tokens.name_of(token) is None


def test_a_file_may_be_saved_by_any_editor(path: Path) -> None:
    path.write_bytes(f"\ufeff# wer darf: Jürgen\r\nalice {ALICE} \rbob {OLD}\r\n".encode())
    tokens = Tokens(path)
    assert [tokens.name_of(t) for t in (ALICE, OLD)] == ["alice", "bob"]


def test_a_token_that_is_taken_out_is_taken_no_more(path: Path) -> None:
    tokens = Tokens(path)
    path.write_text(f"alice {OLD}\n")
    assert [tokens.name_of(t) for t in (ALICE, BOB, OLD)] == [None, None, "alice"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", BOM])
def test_the_tokens_are_the_same_whichever_editor_saved_them(
    path: Path, mark: bytes, end: str
) -> None:
    expected = read(path)
    path.write_bytes(mark + path.read_text().replace("\n", end).encode())
    assert read(path) == expected


@pytest.mark.parametrize("fault", ["a pipe", "a folder", "a device", "huge"])
def test_what_becomes_of_the_file_leaves_the_tokens_and_holds_nobody_up(
    path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(path)
    path.unlink()
    spoil(path, fault)
    assert tokens.name_of(ALICE) == "alice"
    assert "what was there before stays" in caplog.text
    with pytest.raises(InvalidArgument, match=r"not a regular file|folder|more than"):
        read(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no token"),
        (b"# nothing\n", "has no token"),
        (b"alice\n", "line 1 is not a name and a token"),
        (b"x " + b"y" * 20 + b"\nalice short\n", "line 2 is not"),
        (b"al/ice " + b"y" * 20, "line 1 is not"),
        (b"alice sha256:12", "line 1 is not"),
        (b"alice " + b"y" * 20 + b" z", "line 1 is not"),
        ("alice ö".encode() * 20, "line 1 is not"),
    ],
)
def test_a_spoilt_file_is_refused_by_its_line_without_telling_the_token(
    path: Path, content: bytes, reason: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=reason) as caught:
        read(path)
    assert "short" not in str(caught.value)
    assert "yyyy" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"missing: there is no such file"):
        Tokens(tmp_path / "missing")
