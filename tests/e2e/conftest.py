"""Whole projects, made by `lnmt init` the way a user makes them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from lnmt.cli import run
from lnmt.drive.environment import child_environment
from lnmt.drive.pages import free_port
from lnmt.settings import load_settings


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh project of the tiny profile; nothing has run in it."""
    project = tmp_path_factory.mktemp("tiny") / "project"
    assert run(["init", str(project), "--profile", "tiny", "--yes"]) == 0
    return project


@dataclass(frozen=True)
class Prefect:
    """A real Prefect server with a process worker, for one project."""

    url: str
    project: Path
    environment: dict[str, str]

    def command(self, *arguments: str, timeout_s: float = 120) -> str:
        """The output of a command in the project, with this server."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_deployment(self, name: str) -> str:
        """Run a deployment to its end; returns the type of its last state."""
        import json

        out = self.command("prefect", "deployment", "run", name, "--watch", "--watch-interval", "1", timeout_s=600)
        found = httpx.post(
            f"{self.url}/flow_runs/filter",
            json={"sort": "EXPECTED_START_TIME_DESC", "flow_runs": {"parent_task_run_id": {"is_null_": True}}},
            trust_env=False,
        )
        runs = json.loads(found.text)
        mine = [entry for entry in runs if entry["id"] in out]
        assert len(mine) == 1, out
        return str(mine[0]["state_type"])


@pytest.fixture(scope="session")
def prefect(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Server, work pool, `prefect deploy --all`, worker; all gone afterwards."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port(0)
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **child_environment(load_settings(tiny)),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    server = Prefect(url, tiny, environment)
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with _running(start, server, home / "server.log") as process:
        _await(f"{url}/health", process, home / "server.log")
        server.command("prefect", "work-pool", "create", "lnmt", "--type", "process")
        server.command("prefect", "deploy", "--all")
        worker = ["prefect", "worker", "start", "--pool", "lnmt"]
        with _running(worker, server, home / "worker.log"):
            yield server


@contextlib.contextmanager
def _running(arguments: list[str], server: Prefect, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=server.project,
            env=server.environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import time

    ends = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, trust_env=False, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))
