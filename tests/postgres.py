"""A real PostgreSQL of the test's own, on a free loopback port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "lnmt"


def need_driver() -> None:
    """Skip the test, with the reason, where the extra `postgres` is not installed."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yield the SQLAlchemy URL of an empty database; the server and its files go afterwards.

    Skips the test, with the reason, where PostgreSQL or its driver is not installed.
    """
    need_driver()
    programs = _programs()
    as_owner: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lnmt-postgres-") as name:
        directory = Path(name)
        if os.geteuid() == 0:  # the server refuses to run as root
            if shutil.which("runuser") is None:
                pytest.skip("PostgreSQL does not run as root, and there is no runuser")
            as_owner = ["runuser", "-u", "postgres", "--"]
            shutil.chown(directory, "postgres")
        data, port = directory / "data", _free_port()
        initdb = [*as_owner, str(programs / "initdb"), "-D", str(data), "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off"
        control = [*as_owner, str(programs / "pg_ctl"), "-D", str(data), "-w", "-t", "60"]
        log = ["-l", str(directory / "log")]
        subprocess.run([*control, *log, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


def _programs() -> Path:
    """The directory of `initdb` and `pg_ctl`; Debian keeps them out of PATH."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        pytest.skip("PostgreSQL is not installed")
    return versions[-1].parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
