"""The service as processes: start, wait until it is ready, stop with nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from lnmt.bundles.served import check_served_task
from lnmt.errors import LnmtError
from lnmt.params import load_params
from lnmt.plugins import load_plugins
from lnmt.security.binding import check_binding
from lnmt.security.table import KeyTable
from lnmt.security.tls import tls_context
from lnmt.serving.postprocessors import open_postprocessors
from lnmt.serving.processes.plan import Plan, plan
from lnmt.serving.processes.sockets import bound, listening
from lnmt.settings import Settings
from lnmt.telemetry import quiet_environment

WORKER = ("-m", "lnmt.serving.processes.worker")
SUPERVISOR = ("-m", "lnmt.serving.processes")
STOP_S = 30.0  # after SIGTERM; then whatever still runs is killed
POLL_S = 0.1


def serve(settings: Settings, *, name: str, workers: int | None = None) -> int:
    """Run the service until SIGTERM or SIGINT. Returns 0 where every worker then ended in order, else 1.

    `workers`: processes that answer; None: as the settings say, else as many as suit the machine. Raises
    Transient where the port is taken, before anything starts, and LnmtError where no worker can start.
    """
    check(settings, name)
    return supervise(settings, name=name, workers=workers)


def supervise(settings: Settings, *, name: str, workers: int | None = None) -> int:
    """What `serve` does after its checks: this process becomes the supervisor."""
    from lnmt.observability.logging import configure
    from lnmt.runtime.cpu import available_cores
    from lnmt.serving.processes.supervisor import Patience, Supervisor

    configure()
    planned = plan(available_cores(), workers=workers or settings.workers, threads=settings.threads)
    listener = listening(settings.host, settings.port)
    port: int = listener.getsockname()[1]
    url = _url(settings, port)
    metrics = settings.state_dir / "metrics" / str(port)
    shutil.rmtree(metrics, ignore_errors=True)  # figures of an earlier run
    metrics.mkdir(parents=True)

    def tell(reason: str | None) -> None:
        print(f"{name} is served at {url}" if reason is None else f"not ready: {reason}", file=sys.stderr, flush=True)

    supervisor = Supervisor(
        [sys.executable, *WORKER],
        listener,
        workers=planned.workers,
        environment={**_environment(settings, planned), "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
        directory=settings.project,
        metrics=metrics,
        tell=tell,
        patience=Patience(drain=settings.drain_s),
    )
    with _signals() as asked, supervisor:
        return supervisor.run(asked)


@contextmanager
def running_service(
    settings: Settings, *, name: str, workers: int | None = None, timeout_s: float = 120.0
) -> Iterator[str]:
    """The service on a free port of loopback, ready; yields its base URL and leaves no process behind.

    It stops without a drain period: nobody but the caller knows its address. Its output goes to `service.log` in
    the state directory. Raises LnmtError where it does not become ready, with the end of that log.
    """
    changed = {"host": "127.0.0.1", "port": free_port(), "drain_s": 0.0, "workers": workers or settings.workers}
    settings = settings.model_copy(update=changed)
    check(settings, name)
    url = _url(settings, settings.port)
    log = settings.state_dir / "service.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = _start(settings, output)
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
    bound(host, port).close()


def check(settings: Settings, name: str) -> None:
    """What would fail in each worker, said once and before anything starts."""
    source = settings.project / "params.yaml"
    params = load_params(source)
    if params.name != name:
        fix = "serve it from its own project"
        raise LnmtError("the project has another model", where=source, value=name, allowed=params.name, fix=fix)
    check_served_task(params.task, f"{source}: task")
    load_plugins(params.plugins, settings.project)
    open_postprocessors(params.serve.postprocessors)
    tls_context(settings.tls_certificate, settings.tls_key)
    check_binding(settings.host, settings.auth, lambda: _has_keys(settings))
    check_port(settings.host, settings.port)


def _has_keys(settings: Settings) -> bool:
    with KeyTable(settings.database_url) as keys:
        return keys.has_active()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The SIGTERMs and SIGINTs that came so far, instead of what they do else."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(settings: Settings, output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *SUPERVISOR],
        cwd=settings.project,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # a Ctrl-C reaches this process alone, which then stops the service in order
    )


def _environment(settings: Settings, planned: Plan | None = None) -> dict[str, str]:
    """This process's environment, with every setting as its variable, so that the workers have the same."""
    values = {f"LNMT_{key.upper()}": str(value) for key, value in settings.model_dump().items() if value is not None}
    places = {"LNMT_PROJECT": str(settings.project.absolute()), "LNMT_STATE": str(settings.state_dir)}
    threads = {} if planned is None else {"LNMT_THREADS": str(planned.threads)}
    # BentoML makes directories in its home; those of a project stay in the project.
    home = os.environ.get("BENTOML_HOME") or str(settings.state_dir / "bentoml")
    # The cores are the engine's: tokenising a turn's few texts on all of them costs more than it saves.
    alone = {"TOKENIZERS_PARALLELISM": "false"}
    return {**alone, **os.environ, **quiet_environment(), **values, **places, **threads, "BENTOML_HOME": home}


def _url(settings: Settings, port: int) -> str:
    """An address to ask a server that listens on the settings' host."""
    host = settings.host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if settings.tls_certificate else 'http'}://{reachable}:{port}"


def _not_ready(url: str) -> str | None:
    """None where the service is ready; else why not, empty where nothing answers yet."""
    import httpx

    try:
        # whether it is ready, asked on loopback: a certificate is for another name
        reply = httpx.get(f"{url}/readyz", timeout=5, trust_env=False, verify=False)  # noqa: S501
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
    """End the supervisor and its workers, which are sessions of their own: in order, then by force."""
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
        with suppress(psutil.NoSuchProcess):  # it may end by itself between the two
            child.kill()
    psutil.wait_procs(alive, timeout=5.0)
