"""Whose a call is, seen from the job that the engine gets."""

from pathlib import Path
from typing import Any

import pytest

from serving.api.caller import caller, peer_of
from serving.client import Client
from serving.config import ServerConfig
from serving.credentials import Credentials
from serving.engine.engine import Engine
from serving.engine.job import Job
from serving.testing import running
from tests.conftest import COMMITTED
from tests.serving.certificates import TOKEN, Authority


@pytest.mark.parametrize(
    ("identity", "peer", "name"),
    [
        ({}, "ipv4:10.1.2.3:5678", "ipv4:10.1.2.3"),
        ({}, "ipv6:%5B::1%5D:5678", "ipv6:%5B::1%5D"),
        ({}, "unix:/run/makemore.sock", "unix:/run/makemore.sock"),
        ({"x509_common_name": [b"c"]}, "ipv4:10.1.2.3:5678", "certificate:c"),
        (
            {"x509_common_name": [b"c"], "x509_subject_alternative_name": [b"\xff\n", b"t"]},
            "ipv4:10.1.2.3:5678",
            "certificate:\\xff\\n",
        ),
    ],
)
def test_a_caller_is_its_certificate_else_its_address(
    identity: dict[str, list[bytes]], peer: str, name: str
) -> None:
    assert peer_of(identity, peer) == name


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose jobs the engines got."""
    found: list[str] = []
    submit = Engine.submit

    def note(self: Engine, job: Job, **others: Any) -> None:
        found.append(job.caller)
        submit(self, job, **others)

    monkeypatch.setattr(Engine, "submit", note)
    return found


def ask(client: Client) -> None:
    """Each method that gives work to the engine."""
    client.generate()
    list(client.stream())
    client.score(["em"])
    client.next_characters(["em"])
    client.list_top_strings("em", 1)


def test_jobs_without_a_token_are_their_machines(callers: list[str]) -> None:
    with running(ServerConfig(COMMITTED, "127.0.0.1:0")) as server:
        for _ in range(2):  # from another port each
            with Client(f"127.0.0.1:{server.port}") as client:
                ask(client)
    assert len(callers) >= 10
    assert set(callers) == {"ipv4:127.0.0.1"}
    assert caller() == ""


def test_jobs_of_one_connection_are_those_of_their_tokens(
    callers: list[str], tmp_path: Path
) -> None:
    tokens, own = tmp_path / "tokens", tmp_path / "own"
    tokens.write_text(f"alice {TOKEN}\nbob {TOKEN[::-1]}\n")
    with running(ServerConfig(COMMITTED, "127.0.0.1:0", token_file=tokens)) as server:
        for token in (TOKEN, TOKEN[::-1]):
            own.write_text(token)
            with Client(
                f"127.0.0.1:{server.port}", credentials=Credentials(token_file=own)
            ) as client:
                ask(client)
    assert callers[: len(callers) // 2] == ["token:alice"] * (len(callers) // 2)
    assert set(callers[len(callers) // 2 :]) == {"token:bob"}


def test_jobs_with_a_certificate_are_its_owners(callers: list[str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_pair = authority.issue("127.0.0.1")
    pair = authority.issue("alice.example", to="alice")
    config = ServerConfig(
        COMMITTED,
        "127.0.0.1:0",
        tls_certificate=server_pair.certificate,
        tls_key=server_pair.key,
        tls_client_ca=authority.file,
    )
    with running(config) as server:
        credentials = Credentials(authority.file, pair.certificate, pair.key)
        with Client(f"127.0.0.1:{server.port}", credentials=credentials) as client:
            ask(client)
    assert set(callers) == {"certificate:alice.example"}
