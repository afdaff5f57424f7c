"""TLS and tokens as clients meet them: servers with certificates that were made a moment before."""

import logging
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import tls_proof
from serving.cli import main
from serving.client import Client
from serving.config import ServerConfig
from serving.credentials import Credentials
from serving.errors import InvalidArgument, Unauthenticated, Unavailable
from serving.testing import running
from serving.text_files import BOM, MAX_WATCHED
from serving.tls import TlsFiles
from tests.conftest import COMMITTED
from tests.serving.certificates import TOKEN, Authority, Pair, loopback, self_signed
from tests.serving.process import wait_until

UNKNOWN: dict[str, Callable[[], Any]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
}
"""Keys of which OpenSSL makes certificates, and with which gRPC's clients cannot connect."""
KNOWN: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
ec_key = KNOWN["P-256"]


def spoil(path: Path, fault: str) -> None:
    """Make something of a path that is not a file to be read."""
    match fault:
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "a device":
            path.symlink_to("/dev/zero")
        case "huge":
            path.write_bytes(b"#" * (MAX_WATCHED + 1))


def files_of(pair: Pair) -> TlsFiles:
    """The files of a server that asks clients for no certificate."""
    return TlsFiles(pair.certificate, pair.key)


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


@pytest.mark.parametrize(
    "fault",
    [
        *("the key of another", "no PEM", "gone", "Ed25519", "Ed448", "P-521", "expired"),
        *("not yet valid", "a pipe", "a folder", "a device", "huge"),
    ],
)
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
        case "Ed25519" | "Ed448" | "P-521":
            self_signed(pair.key.parent, UNKNOWN[fault](), *loopback())
        case "expired":
            self_signed(pair.key.parent, ec_key(), *loopback(), valid=(-3, -1))
        case "not yet valid":
            self_signed(pair.key.parent, ec_key(), *loopback(), valid=(1, 3))
        case _:
            pair.certificate.unlink()
            spoil(pair.certificate, fault)
    known = Credentials(authority.file, token_file=tokens)
    with caplog.at_level(logging.ERROR):
        assert name_of(address, known)
        wait_until(lambda: "what was there before stays" in caplog.text)
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
    assert set(TlsFiles(**files).read().expiries) == {pair.certificate, authority.file}
    for path in (spoilt, tmp_path / "missing"):
        with pytest.raises(InvalidArgument, match=r"^tls_\w+: .*(be used|no PEM|no such file)"):
            TlsFiles(**{**files, field: path}).read()


@pytest.mark.parametrize("kind", KNOWN)
def test_keys_that_clients_know_are_served(kind: str, tmp_path: Path) -> None:
    pair = self_signed(tmp_path, KNOWN[kind](), *loopback())
    with running(config(pair)) as server:
        known = Credentials(pair.certificate)
        assert name_of(f"127.0.0.1:{server.port}", known).startswith("models/names")


@pytest.mark.parametrize("kind", UNKNOWN)
def test_keys_that_no_client_knows_are_refused_by_file(kind: str, tmp_path: Path) -> None:
    pair = self_signed(tmp_path, UNKNOWN[kind](), *loopback())
    with pytest.raises(InvalidArgument) as caught, running(config(pair)):
        pass
    assert caught.value.field == "tls_certificate"
    assert f"{pair.certificate} and {pair.key} cannot be used" in caught.value.description
    assert "RSA key, or an EC key on P-256 or P-384" in caught.value.description


def test_rsa_keys_for_pss_alone_are_refused(tmp_path: Path) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl, since the package cryptography makes no such keys")
    pair = Pair(tmp_path / "server.pem", tmp_path / "server.key")
    made = [openssl, "req", "-x509", "-newkey", "rsa-pss", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [*made, "-keyout", pair.key, "-out", pair.certificate], check=True, capture_output=True
    )
    with pytest.raises(InvalidArgument, match="gRPC cannot load them"):
        files_of(pair).read()


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("*.example.org")],
        [x509.DNSName("a.example.org"), x509.DNSName("b.example.org")],
        [x509.IPAddress(ip_address("fd00::1"))],
        [x509.UniformResourceIdentifier("spiffe://example.org/server")],
        [x509.RFC822Name("a@example.org")],
    ],
    ids=str,
)
@pytest.mark.parametrize("is_authority", [True, False])
def test_the_names_of_a_certificate_are_not_judged(
    names: list[x509.GeneralName], is_authority: bool, tmp_path: Path
) -> None:
    pair = self_signed(
        tmp_path, ec_key(), *names, common_name="any.name", is_authority=is_authority
    )
    assert files_of(pair).read().expiries[pair.certificate] > time.time()


def test_a_chain_is_served_though_an_authority_in_it_has_expired(
    pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    """Clients may trust another certificate of the same authority."""
    (beside := tmp_path / "beside").mkdir()
    old = self_signed(beside, ec_key(), common_name="old", valid=(-3, -1))
    for more in (authority.file, old.certificate):
        pair.certificate.write_bytes(pair.certificate.read_bytes() + more.read_bytes())
    with running(config(pair)) as server:
        assert name_of(f"127.0.0.1:{server.port}", Credentials(authority.file))


@pytest.mark.parametrize("field", ["certificate", "key", "client_ca"])
def test_a_byte_order_mark_and_text_between_certificates_do_no_harm(
    pair: Pair, authority: Authority, tmp_path: Path, field: str
) -> None:
    client = authority.issue("alice.example", to="alice")
    marked = tmp_path / "marked"
    files = {"certificate": pair.certificate, "key": pair.key, "client_ca": authority.file}
    marked.write_bytes(BOM + b"\r\n# \xc3\xa9\r\n" * (field != "key") + files[field].read_bytes())
    security = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    security |= {"tls_client_ca": authority.file, f"tls_{field}": marked}
    with running(ServerConfig(COMMITTED, "127.0.0.1:0", **security)) as server:  # type: ignore[arg-type]
        ca = tmp_path / "trusted"
        ca.write_bytes(BOM + authority.file.read_bytes())
        known = Credentials(ca, client.certificate, client.key)
        assert name_of(f"127.0.0.1:{server.port}", known).startswith("models/names")


@pytest.mark.parametrize(
    ("valid", "reason"),
    [((-3, -1), "server.pem expired on "), ((1, 3), "server.pem is valid from ")],
)
def test_a_certificate_that_is_not_valid_now_is_refused_with_its_date(
    valid: tuple[int, int], reason: str, authority: Authority, tmp_path: Path
) -> None:
    day = datetime.now(UTC) + timedelta(days=valid[1] if valid[1] < 0 else valid[0])
    pair = self_signed(tmp_path, ec_key(), *loopback(), valid=valid)
    with pytest.raises(InvalidArgument) as caught, running(config(pair)):
        pass
    assert caught.value.field == "tls_certificate"
    assert f"{reason}{day:%Y-%m-%d}" in caught.value.description
    kept = tmp_path / "clients.pem"
    pair.certificate.replace(kept)
    own = authority.issue("127.0.0.1")
    with pytest.raises(InvalidArgument) as caught, running(config(own, tls_client_ca=kept)):
        pass
    assert caught.value.field == "tls_client_ca"
    assert f"{day:%Y-%m-%d}" in caught.value.description


def test_one_authority_of_clients_that_is_valid_is_enough(
    pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    (beside := tmp_path / "beside").mkdir()
    old = self_signed(beside, ec_key(), common_name="old", valid=(-3, -1))
    both = tmp_path / "both"
    both.write_bytes(old.certificate.read_bytes() + authority.file.read_bytes())
    assert TlsFiles(pair.certificate, pair.key, both).read().expiries[both] > time.time()
    pinned = self_signed(beside, ec_key(), common_name="client", is_authority=False)
    assert TlsFiles(pair.certificate, pair.key, pinned.certificate).read().expiries == {
        pair.certificate: files_of(pair).read().expiries[pair.certificate],
        pinned.certificate: math.inf,
    }


def test_a_certificate_that_expires_while_it_serves_is_logged_once(
    pair: Pair,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Credentials(authority.file)
    with running(config(pair)) as server, caplog.at_level(logging.ERROR):
        address = f"127.0.0.1:{server.port}"
        assert name_of(address, known)
        assert not caplog.records
        ends = files_of(pair).read().expiries[pair.certificate]
        monkeypatch.setattr(tls_proof, "now", lambda: ends + 1)
        assert name_of(address, known)
        assert name_of(address, known)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{pair.certificate} expired on ")


@pytest.mark.parametrize("fault", ["a pipe", "a folder", "a device", "huge"])
def test_only_files_of_some_size_are_read(
    pair: Pair, authority: Authority, tmp_path: Path, fault: str
) -> None:
    spoilt = tmp_path / "spoilt"
    spoil(spoilt, fault)
    for files in (
        TlsFiles(spoilt, pair.key),
        TlsFiles(pair.certificate, spoilt),
        TlsFiles(pair.certificate, pair.key, spoilt),
    ):
        with pytest.raises(
            InvalidArgument,
            match=re.escape(str(spoilt)) + r"( is not a regular file| is a folder| has more than)",
        ):
            files.read()


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
