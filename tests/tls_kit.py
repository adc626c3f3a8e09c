"""A certificate for tests."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Files:
    """PEM files of one certificate, which is its own authority; `encrypted` is its key behind a password."""

    certificate: Path
    key: Path
    encrypted: Path


def make_tls_files(directory: Path) -> Files:
    """For localhost and 127.0.0.1, good for a day; skips where there is no openssl."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    directory.mkdir()
    files = Files(directory / "chain.pem", directory / "key.pem", directory / "encrypted.pem")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-keyout", str(files.key), "-out", str(files.certificate)]
    subprocess.run([program, "req", "-x509", *curve, *names, *made], check=True, capture_output=True)
    lock = ["-aes256", "-passout", "pass:secret", "-in", str(files.key), "-out", str(files.encrypted)]
    subprocess.run([program, "pkey", *lock], check=True, capture_output=True)
    return files
