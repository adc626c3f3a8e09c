"""TLS of the service: 1.2 and newer, forward secret ciphers alone (RFC 9325)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from lnmt.errors import LnmtError

CIPHERS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"  # those of 1.3 are all of this kind


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """For a server, from PEM files: the certificate with its chain, and its private key. None where neither is named.

    For uvicorn: `ssl_context_factory=lambda config, default: context`. Raises LnmtError for one without
    the other, a file that cannot be read, a key that is encrypted or belongs to another certificate.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "LNMT_TLS_CERTIFICATE" if certificate is None else "LNMT_TLS_KEY"
        fix = "name both files, or neither for plain HTTP"
        raise LnmtError("TLS needs a certificate and its key", where=missing, fix=fix)
    for name, path in (("LNMT_TLS_CERTIFICATE", certificate), ("LNMT_TLS_KEY", key)):
        _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: _encrypted(key))
    except ssl.SSLError as error:
        raise LnmtError(
            "the certificate and its key cannot be used",
            where=f"{certificate}, {key}",
            value=(error.reason or str(error)).lower().replace("_", " "),
            allowed="PEM: the certificate and its chain in one file, its private key in the other",
            fix="check that they belong together: openssl x509 -noout -pubkey, openssl pkey -pubout",
        ) from error
    return context


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        fix = f"mend {name}, or the file's owner and mode"
        raise LnmtError(f"cannot read: {error.strerror}", where=name, value=path, fix=fix) from error


def _encrypted(key: Path) -> NoReturn:
    """Instead of a question at the terminal."""
    fix = "keep it unencrypted where only the service's user can read it: openssl pkey -in KEY -out PLAIN"
    raise LnmtError("the private key is encrypted", where=key, fix=fix)
