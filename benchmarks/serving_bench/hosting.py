"""A server as processes: started, awaited by a real answer, its CPU time read, stopped by its pids."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from benchmarks.serving_bench.peers import PREDICT, Answer, Face, Peer
from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.params import load_params
from lnmt.serving.server import running_service
from lnmt.settings import Settings

ROOT = Path(__file__).parents[2]
START_S, STOP_S, POLL_S = 120.0, 15.0, 0.1
OTHER_PORTS = 5  # of management, metrics and gRPC; MLServer and TorchServe open some


@dataclass(frozen=True)
class Hosted:
    """A server that answers."""

    url: str  # of its predictions
    face: Face

    def ask(self, client: httpx.Client, text: str) -> Answer:
        """Its answer to one text. Raises LnmtError for any status but 200."""
        reply = client.post(self.url, json=self.face.body(text))
        if reply.status_code != 200:
            value = f"{reply.status_code}: {reply.text[:300]}"
            raise LnmtError("a text was not answered", where=self.url, value=value, fix="look at the server's log")
        return self.face.read(reply.json())


@contextmanager
def hosted_lnmt(project: Path, cache: Path) -> Iterator[Hosted]:
    """LNMT's own service of `project`, started as `lnmt serve` starts it."""
    settings = Settings(project=project, state=project / ".lnmt", cache=cache, response_cache=None)
    with running_service(settings, name=load_params(project / "params.yaml").name) as url:
        yield Hosted(f"{url}{PREDICT.path}", PREDICT)


@contextmanager
def hosted_peer(peer: Peer, python: Path, bundle: Bundle, threads: int, work: Path) -> Iterator[Hosted]:
    """`peer` in its environment; `work`: a directory for what it writes, its log `server.log` among it.

    Raises LnmtError where it does not answer, with the end of that log.
    """
    port, *others = free_ports(1 + OTHER_PORTS)
    work.mkdir(parents=True)
    variables = {
        "BENCH_BUNDLE": str(bundle.path),
        "BENCH_THREADS": str(threads),
        "BENCH_PORT": str(port),
        "BENCH_OTHER_PORTS": ",".join(map(str, others)),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("BENTOML_")}
    server = Hosted(f"http://127.0.0.1:{port}{peer.face.path}", peer.face)
    # Ray's sockets lie below it, and a socket's path has 107 characters.
    with TemporaryDirectory(prefix="lnmt-") as scratch, (work / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), "-m", f"benchmarks.serving_bench.servers.{peer.module}"],
            cwd=work,
            env={**inherited, **variables, "TMPDIR": scratch, **peer.variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _await_answer(server, process)
            yield server
        except LnmtError as error:  # the log goes with the benchmark's directory
            error.add_note(f"the end of the log of {peer.title}:\n{_tail(work / 'server.log')}")
            raise
        finally:
            stop(process)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def server_cpu_s() -> float:
    """CPU seconds that every process below this one has used so far: only one server is up, and nothing else."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started: asked first, then by force."""
    family = _family(process)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for end in (psutil.Process.terminate, psutil.Process.kill):
        _, family = psutil.wait_procs(family, timeout=0.5)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                end(member)
    psutil.wait_procs(family, timeout=5)


def _family(process: subprocess.Popen[bytes]) -> list[Any]:
    try:
        found: list[Any] = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        found = []
    return found


def _await_answer(server: Hosted, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_S
    last = "nothing listens"
    with httpx.Client(timeout=START_S, trust_env=False) as client:
        while process.poll() is None and time.monotonic() < ends:
            try:
                server.ask(client, "a film")
            except (httpx.HTTPError, LnmtError, json.JSONDecodeError) as error:
                last = str(error)
                time.sleep(POLL_S)
            else:
                return
    what = "the server ended" if process.poll() is not None else f"the server gave no answer within {START_S:g} s"
    raise LnmtError(what, where=server.url, value=last[:500], fix="see the end of its log")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-20:])
