"""The service as processes: start, wait until it is ready, stop with nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from lnmt.bundles.served import check_served_task
from lnmt.errors import LnmtError, Transient
from lnmt.params import load_params
from lnmt.plugins import load_plugins
from lnmt.settings import Settings
from lnmt.telemetry import quiet_environment

SERVICE = "lnmt.serving.service:Lnmt"
STOP_S = 30.0  # after SIGTERM; then whatever still runs is killed
POLL_S = 0.1


def serve(settings: Settings, *, name: str, workers: int = 1) -> int:
    """Run the service until SIGTERM or SIGINT; returns 0 after such an end, else what BentoML left with.

    Raises Transient where the port is taken, before anything starts.
    """
    _check(settings, name)
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    process = _start(settings, settings.host, settings.port, workers, output=None)
    try:
        said = None
        while process.poll() is None and not asked:
            reason = _not_ready(url)
            if reason is None:
                print(f"{name} is served at {url}", file=sys.stderr, flush=True)
                break
            if reason and reason != said:
                print(f"not ready: {reason}", file=sys.stderr, flush=True)
                said = reason
            time.sleep(POLL_S)
        while process.poll() is None and not asked:
            time.sleep(POLL_S)
    finally:
        _stop(process)
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if asked else process.returncode or 1


@contextmanager
def running_service(settings: Settings, *, name: str, workers: int = 1, timeout_s: float = 120.0) -> Iterator[str]:
    """The service on a free port of loopback, ready; yields its base URL and leaves no process behind.

    Its output goes to `service.log` in the state directory. Raises LnmtError where it does not become
    ready, with the end of that log.
    """
    port = free_port()
    settings = settings.model_copy(update={"host": "127.0.0.1", "port": port})
    _check(settings, name)
    url = f"http://127.0.0.1:{port}"
    log = settings.state_dir / "service.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = _start(settings, settings.host, port, workers, output)
        try:
            _await_ready(process, url, log, timeout_s)
            yield url
        finally:
            _stop(process)


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(host: str, port: int) -> None:
    """Raise Transient where something listens there, LnmtError where the address is none of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            where, fix = f"{host}:{port}", "stop what listens there, or choose another port: LNMT_PORT=3001"
            if isinstance(error, PermissionError):
                raise LnmtError("this port needs rights", where=where, allowed="1024 to 65535", fix=fix) from error
            if isinstance(error, socket.gaierror) or error.errno == 99:  # EADDRNOTAVAIL
                fix = "LNMT_HOST=127.0.0.1, or an address of this machine"
                raise LnmtError("no address of this machine", where=where, fix=fix) from error
            raise Transient("the port is taken", where=where, value=port, fix=fix) from error


def _check(settings: Settings, name: str) -> None:
    """What would fail in a worker, which BentoML would start again and again."""
    source = settings.project / "params.yaml"
    params = load_params(source)
    if params.name != name:
        fix = "serve it from its own project"
        raise LnmtError("the project has another model", where=source, value=name, allowed=params.name, fix=fix)
    check_served_task(params.task, f"{source}: task")
    load_plugins(params.plugins, settings.project)
    check_port(settings.host, settings.port)


def _start(settings: Settings, host: str, port: int, workers: int, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", host, "--port", str(port)]
    return subprocess.Popen(
        command,
        cwd=settings.project,
        env=_environment(settings, workers),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a Ctrl-C reaches this process alone, which then stops BentoML in order
    )


def _environment(settings: Settings, workers: int) -> dict[str, str]:
    """This process's environment, with every setting as its variable, so that the workers have the same."""
    values = {f"LNMT_{key.upper()}": str(value) for key, value in settings.model_dump().items() if value is not None}
    places = {"LNMT_PROJECT": str(settings.project.absolute()), "LNMT_STATE": str(settings.state_dir)}
    options = f"services.lnmt.workers={workers}"
    # BentoML makes directories in its home; those of a project stay in the project.
    home = os.environ.get("BENTOML_HOME") or str(settings.state_dir / "bentoml")
    own = {"BENTOML_HOME": home, "BENTOML_CONFIG_OPTIONS": options}
    return {**os.environ, **quiet_environment(), **values, **places, **own}


def _reachable(host: str) -> str:
    """An address to ask a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _not_ready(url: str) -> str | None:
    """None where the service is ready; else why not, empty where nothing answers yet."""
    import httpx

    try:
        reply = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
        if reply.status_code == 200:
            return None
        body = reply.json()
    except (httpx.HTTPError, ValueError):
        return ""
    return f"{body['error']}: {body['fix']}" if body.keys() >= {"error", "fix"} else ""


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    ends = time.monotonic() + timeout_s
    reason: str | None = ""
    while process.poll() is None and time.monotonic() < ends:
        reason = _not_ready(url)
        if reason is None:
            return
        time.sleep(POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
    what = "the service ended" if process.poll() is not None else f"the service was not ready after {timeout_s:g} s"
    raise LnmtError(what, where=log, value=reason or None, fix="the end of its log:\n" + "\n".join(tail))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End BentoML's supervisor and its workers, which are sessions of their own: in order, then by force."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=1.0)
    for child in alive:
        child.kill()
    psutil.wait_procs(alive, timeout=5.0)
