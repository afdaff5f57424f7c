"""TLS and tokens as clients meet them: servers with certificates that were made a moment before."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.cli import main
from serving.client import Client
from serving.config import ServerConfig
from serving.credentials import Credentials
from serving.errors import InvalidArgument, Unauthenticated, Unavailable
from serving.testing import running
from serving.tls import TlsFiles
from tests.conftest import COMMITTED
from tests.serving.certificates import TOKEN, Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("127.0.0.1")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"alice {TOKEN}\n")
    return path


def config(pair: Pair, **security: Path) -> ServerConfig:
    return replace(
        ServerConfig(COMMITTED, "127.0.0.1:0", tls_certificate=pair.certificate, tls_key=pair.key),
        **security,  # type: ignore[arg-type]
    )


@pytest.fixture
def address(pair: Pair, tokens: Path) -> Iterator[str]:
    """A server with TLS and tokens."""
    with running(config(pair, token_file=tokens)) as server:
        yield f"127.0.0.1:{server.port}"


def name_of(address: str, credentials: Credentials, timeout: float = 10) -> str:
    """What a server that can be asked says of its model; a connection of its own."""
    with Client(address, timeout, credentials) as client:
        return client.get_model().name


def test_with_certificate_and_token_a_call_is_answered(
    address: str, authority: Authority, tokens: Path
) -> None:
    credentials = Credentials(authority.file, token_file=tokens)
    with Client(address, credentials=credentials) as client:
        assert len(client.generate("em", 3).samples) == 3
        assert sum(len(m.samples) for m in client.stream(n=5)) == 5


@pytest.mark.parametrize("token", [None, "x" * 32, TOKEN[:-1]])
def test_without_a_token_that_is_taken_no_method_answers(
    address: str, authority: Authority, tmp_path: Path, token: str | None
) -> None:
    shown = tmp_path / "shown"
    shown.write_text(token or "")
    credentials = Credentials(authority.file, token_file=shown if token else None)
    with Client(address, credentials=credentials) as client:
        for call in (client.generate, client.get_model, lambda: list(client.stream())):
            with pytest.raises(Unauthenticated) as caught:
                call()
            assert TOKEN[:8] not in str(caught.value)


def test_nothing_is_parsed_for_a_caller_without_a_token(address: str, authority: Authority) -> None:
    trusted = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with grpc.secure_channel(address, trusted) as channel:
        call: Any = channel.unary_unary("/makemore.v1.GenerationService/Generate")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_token_and_reflection_does(address: str, authority: Authority) -> None:
    trusted = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with grpc.secure_channel(address, trusted) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        found = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection(iter([b""]), timeout=10))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_client_that_does_not_know_the_authority_does_not_speak(
    address: str, tmp_path: Path, tokens: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    for credentials, why in (
        (Credentials(stranger.file, token_file=tokens), "its certificate is not one"),
        (Credentials(), "it may want TLS"),
    ):
        with pytest.raises(Unavailable, match=why):
            name_of(address, credentials, timeout=2)


def test_with_a_client_authority_only_its_clients_are_let_in(
    pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    ours = Authority(tmp_path, "clients")
    client, stranger = ours.issue("alice.example", to="alice"), authority.issue("bob", to="bob")
    with running(config(pair, tls_client_ca=ours.file)) as server:
        address = f"127.0.0.1:{server.port}"
        known = Credentials(authority.file, client.certificate, client.key)
        assert name_of(address, known).startswith("models/names")
        for credentials in (
            Credentials(authority.file),
            Credentials(authority.file, stranger.certificate, stranger.key),
        ):
            with pytest.raises(Unavailable, match="or a certificate of the client's"):
                name_of(address, credentials, timeout=2)


def test_a_certificate_is_replaced_while_calls_run(
    address: str, authority: Authority, tokens: Path
) -> None:
    trusted = grpc.ssl_channel_credentials(authority.file.read_bytes())
    old = Credentials(authority.file, token_file=tokens)
    with Client(address, credentials=old) as client:
        for turn in range(5):
            authority.issue("127.0.0.1", f"turn-{turn}.example")
            name = (("grpc.ssl_target_name_override", f"turn-{turn}.example"),)
            with grpc.secure_channel(address, trusted, options=name) as channel:
                grpc.channel_ready_future(channel).result(10)
            assert client.generate().samples
            assert name_of(address, old)


@pytest.mark.parametrize("fault", ["the key of another", "no PEM", "gone"])
def test_a_bad_certificate_leaves_the_old_one(
    address: str,
    authority: Authority,
    tokens: Path,
    pair: Pair,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    match fault:
        case "the key of another":
            authority.issue("127.0.0.1", to="other").key.replace(pair.key)
        case "no PEM":
            pair.certificate.write_text("nothing")
        case "gone":
            pair.key.unlink()
    known = Credentials(authority.file, token_file=tokens)
    with caplog.at_level(logging.ERROR):
        assert name_of(address, known)
        assert name_of(address, known)
    assert caplog.text.count("what was there before stays") == 1


def test_a_token_that_is_replaced_while_it_serves_is_taken_at_once(
    address: str, authority: Authority, tokens: Path
) -> None:
    old = Credentials(authority.file, token_file=tokens)
    with Client(address, credentials=old) as client:
        assert client.generate().samples
        tokens.write_text("bob " + "n" * 40)
        with pytest.raises(Unauthenticated):
            client.generate()
    assert name_of(address, old)  # which reads the file anew


def test_the_command_takes_them_as_flags(address: str, authority: Authority, tokens: Path) -> None:
    asked = ["generate", "--address", address, "-n", "2", "--tls-ca", str(authority.file)]
    result = CliRunner().invoke(main, [*asked, "--token-file", str(tokens)])
    assert (result.exit_code, len(result.output.splitlines())) == (0, 2)
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2
    assert "a token is needed" in result.output


@pytest.mark.parametrize("field", ["certificate", "key", "client_ca"])
def test_files_that_cannot_be_used_are_told_at_the_start(
    pair: Pair, authority: Authority, tmp_path: Path, field: str
) -> None:
    spoilt = tmp_path / "spoilt.pem"
    spoilt.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
    files = {"certificate": pair.certificate, "key": pair.key, "client_ca": authority.file}
    assert len(TlsFiles(**files).read()) == 3
    for path in (spoilt, tmp_path / "missing"):
        with pytest.raises(InvalidArgument, match=r"^tls_\w+: .*(be used|no PEM)"):
            TlsFiles(**{**files, field: path}).read()


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("tls_key", {"tls_certificate": Path("x")}),
        ("tls_key", {"tls_key": Path("x")}),
        ("tls_client_ca", {"tls_client_ca": Path("x")}),
        ("token_file", {"token_file": Path("x"), "listen": "0.0.0.0:1"}),
        ("token_file", {"token_file": Path("x"), "listen": "127.evil.example:1"}),
        ("token_file", {"token_file": Path("x"), "listen": "localhost.example:1"}),
        ("token_file", {"token_file": Path("x"), "listen": "[::]:1"}),
    ],
)
def test_what_is_not_safe_together_is_refused(field: str, given: dict[str, Path]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ServerConfig(COMMITTED, **given)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_tokens_without_tls_are_for_this_machine_alone(listen: str, tokens: Path) -> None:
    assert ServerConfig(COMMITTED, listen, token_file=tokens).tls is None
    assert Credentials(token_file=tokens).metadata(listen)
    for address in ("127.evil.example:1", "10.0.0.1:1", "localhost.example:1"):
        with pytest.raises(InvalidArgument, match="token_file: needs tls_ca"):
            Credentials(token_file=tokens).metadata(address)
