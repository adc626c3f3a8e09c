from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.security.tls import tls_context
from tests.tls_kit import Files, make_tls_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_tls_files(tmp_path_factory.mktemp("tls") / "one")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str | None, str | None]:
    """Version and protocol that both agree on; raises what either raises."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname="localhost"),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return sides[0].version(), sides[0].selected_alpn_protocol()


def client_of(files: Files) -> ssl.SSLContext:
    client = ssl.create_default_context(cafile=files.certificate)
    client.set_alpn_protocols(["http/1.1"])
    return client


def server_of(files: Files) -> ssl.SSLContext:
    context = tls_context(files.certificate, files.key)
    assert context is not None
    return context


def test_without_files_there_is_no_tls() -> None:
    assert tls_context(None, None) is None


@pytest.mark.parametrize(
    ("version", "spoken"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_it_speaks_1_2_and_1_3(files: Files, version: ssl.TLSVersion, spoken: str) -> None:
    client = client_of(files)
    client.maximum_version = version
    assert handshake(server_of(files), client) == (spoken, "http/1.1")


def test_it_does_not_speak_1_1(files: Files) -> None:
    client = client_of(files)
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        handshake(server_of(files), client)


def test_a_cipher_without_forward_secrecy_is_refused(files: Files) -> None:
    client = client_of(files)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(server_of(files), client)


def test_one_file_alone_is_refused(files: Files) -> None:
    with pytest.raises(LnmtError, match="a certificate and its key") as caught:
        tls_context(files.certificate, None)
    assert caught.value.where == "LNMT_TLS_KEY"
    with pytest.raises(LnmtError) as caught:
        tls_context(None, files.key)
    assert caught.value.where == "LNMT_TLS_CERTIFICATE"


def test_a_file_that_is_not_there_is_told(files: Files, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="cannot read: No such file") as caught:
        tls_context(files.certificate, tmp_path / "absent.pem")
    assert (caught.value.where, caught.value.value) == ("LNMT_TLS_KEY", tmp_path / "absent.pem")


def test_a_key_of_another_certificate_is_told(files: Files, tmp_path: Path) -> None:
    other = make_tls_files(tmp_path / "other")
    with pytest.raises(LnmtError, match="cannot be used") as caught:
        tls_context(files.certificate, other.key)
    assert caught.value.value == "key values mismatch"


def test_an_encrypted_key_is_told_and_nobody_is_asked(files: Files) -> None:
    with pytest.raises(LnmtError, match="the private key is encrypted"):
        tls_context(files.certificate, files.encrypted)


def test_a_file_that_is_no_pem_is_told(files: Files, tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text("not a certificate")
    with pytest.raises(LnmtError, match="cannot be used"):
        tls_context(tmp_path / "chain.pem", files.key)
