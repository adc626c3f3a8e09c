"""`lnmt serve` as a user starts it, in a project that packs a tiny bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from lnmt.bundles import Bundle
from lnmt.bundles.packed import pack_champion
from lnmt.serving.server import WORKER, free_port
from tests.family import kill_family

REPOSITORY = Path(__file__).parents[1]
NAME = "sentiment"  # of the model in this checkout's params.yaml


def make_service_project(root: Path, champion: Bundle) -> Path:
    """A directory with this checkout's params.yaml, and the champion packed."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    pack_champion(champion, root)
    return root


class Instance:
    """One `lnmt serve`, with one engine thread a worker; `settings` are further LNMT_ variables."""

    def __init__(self, project: Path, *, workers: int = 1, port: int | None = None, **settings: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = project / f"serve-{self.port}.log"
        given = {f"LNMT_{name.upper()}": value for name, value in {"threads": "1", **settings}.items()}
        flags = ["--project", str(project), "--port", str(self.port), "--workers", str(workers)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lnmt", "serve", *flags],
                env={**os.environ, **given},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def workers(self) -> list[psutil.Process]:
        """Its workers that run."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.is_running() and list(WORKER) == _command(child)[1:3]]

    def ready(self) -> dict[str, Any] | None:
        """What /readyz says on a connection of its own; None where it is not ready."""
        try:
            reply = httpx.get(f"{self.url}/readyz", timeout=30, trust_env=False)
        except httpx.TransportError:
            return None
        body: dict[str, Any] = reply.json()
        return body if reply.status_code == 200 else None

    def await_ready(self, workers: int = 1) -> None:
        """Until so many workers are ready; AssertionError with the log where the process ends before."""
        while (self.ready() or {}).get("workers", {}).get("ready", 0) < workers:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """Leave nothing behind, whatever it does."""
        if self.process.poll() is None:
            kill_family(self.process.pid)
        self.process.wait()


def _command(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return command
