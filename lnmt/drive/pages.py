"""The pages of Prefect, MLflow and the reports, each a local server, until someone presses Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lnmt.drive.environment import child_environment, prefect_environment
from lnmt.errors import LnmtError
from lnmt.settings import Settings

HOST = "127.0.0.1"
START_S, STOP_S, LOOK_EVERY_S = 120.0, 10.0, 0.2


@dataclass(frozen=True)
class Page:
    """One server, and where its pages are."""

    name: str
    command: tuple[str, ...]
    port: int
    health: str  # path that answers 200 once it is there
    links: tuple[str, ...] = ("/",)


def pages(settings: Settings) -> list[Page]:
    """The servers on free ports, at their usual ones where these are free."""
    reports = settings.project.absolute() / "reports"
    reports.mkdir(exist_ok=True)
    prefect, mlflow, files = free_port(4200), free_port(5000), free_port(8000)
    python = sys.executable
    store = settings.tracking_uri
    artifacts = str(settings.state_dir / "mlflow")
    found = sorted(path.relative_to(reports).as_posix() for path in reports.glob("*/*.html"))
    return [
        Page("Prefect", (python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(prefect)), prefect,
             "/api/health"),
        Page("MLflow", (python, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
                        artifacts, "--host", HOST, "--port", str(mlflow), "--workers", "1"), mlflow, "/health"),
        Page("reports", (python, "-m", "http.server", str(files), "--bind", HOST, "--directory", str(reports)), files,
             "/", tuple(f"/{path}" for path in found)),
    ]  # fmt: skip


def show_pages(settings: Settings, *, tell: Callable[[str], None]) -> None:
    """Start every server, tell the addresses, and end them all at Ctrl-C or SIGTERM."""
    with running_pages(settings, pages(settings)) as found:
        for name, address in found:
            tell(f"{name:<8} {address}")
        tell("Ctrl-C ends them")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


@contextmanager
def running_pages(settings: Settings, servers: Sequence[Page]) -> Iterator[list[tuple[str, str]]]:
    """Yield (name, address) once every server answers; afterwards none of them runs."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    environment = {**child_environment(settings), **prefect_environment(settings)}
    with ExitStack() as stack:
        started = [(page, stack.enter_context(_running(page, settings, environment))) for page in servers]
        for page, process in started:
            _await(page, process, settings.state_dir / f"{page.name}.log")
        yield addresses(servers)


def addresses(servers: Sequence[Page]) -> list[tuple[str, str]]:
    """(name, address) of every page."""
    return [(page.name, f"http://{HOST}:{page.port}{link}") for page in servers for link in page.links]


@contextmanager
def _running(page: Page, settings: Settings, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (settings.state_dir / f"{page.name}.log").open("wb") as log:
        process = subprocess.Popen(
            page.command, cwd=settings.project, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # Prefect's may need a second one
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)


def _await(page: Page, process: subprocess.Popen[bytes], log: Path) -> None:
    import httpx

    ends = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://{HOST}:{page.port}{page.health}", trust_env=False, timeout=5).status_code == 200:
                return
        time.sleep(LOOK_EVERY_S)
    tail = log.read_text(errors="replace").splitlines()[-10:]
    raise LnmtError(
        f"the {page.name} server did not start", where=log, value="\n    ".join(tail), fix="mend what its log names"
    )


def free_port(usual: int) -> int:
    """`usual`, or any free port where it is taken."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                chosen: int = probe.getsockname()[1]
                return chosen
    raise LnmtError("no free port", where=HOST, fix="end a program that listens")
