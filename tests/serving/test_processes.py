"""`lnmt serve` with its real workers, and what signals and deaths do to them."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from lnmt.bundles import Bundle
from lnmt.client import Client
from lnmt.serving.processes.bento import PATHS
from tests.service_kit import Instance, make_service_project
from tests.tls_kit import make_tls_files

Start = Callable[..., Instance]


@pytest.fixture
def start(tmp_path: Path, champion: Bundle) -> Iterator[Start]:
    project = make_service_project(tmp_path / "project", champion)
    instances: list[Instance] = []

    def begin(workers: int = 1, **settings: str) -> Instance:
        instances.append(Instance(project, workers=workers, port=None, **settings))
        return instances[-1]

    yield begin
    for instance in instances:
        instance.kill()


def test_a_killed_worker_is_replaced_and_readiness_tells_the_truth(start: Start) -> None:
    service = start(workers=2)
    service.await_ready(2)
    with Client(service.url) as client:
        for _ in range(10):
            client.predict("a good film")
        await_counted(service, 10)  # a request is counted once it was answered: a kill may come between
        victims = [kill_a_worker(service)]
        while (seen := workers_until_whole(service)) == [WHOLE]:  # the new one was as fast as the question
            victims.append(kill_a_worker(service))
        assert {"ready": 1, "wanted": 2} in seen
        assert not {worker.pid for worker in service.workers()}.intersection(victims)
        assert client.predict("a good film").label is not None
    await_counted(service, 11)  # those of dead workers are kept


WHOLE = {"ready": 2, "wanted": 2}


def kill_a_worker(service: Instance) -> int:
    """Its process id; it is gone when this returns."""
    victim = service.workers()[0]
    victim.kill()
    victim.wait()
    return int(victim.pid)


def workers_until_whole(service: Instance) -> list[dict[str, int]]:
    """What readiness said of the workers, change by change, until all were ready again."""
    seen: list[dict[str, int]] = []
    while not seen or seen[-1] != WHOLE:
        body = service.ready()
        assert body is not None, "the other worker is ready"
        if not seen or seen[-1] != body["workers"]:
            seen.append(body["workers"])
    return seen


def await_counted(service: Instance, predictions: int) -> None:
    """Until so many are in the metrics."""
    counted = f'lnmt_requests_total{{method="POST",route="/predict",status="200"}} {predictions}.0'
    while counted not in httpx.get(f"{service.url}/metrics", trust_env=False).text:
        pass


def test_sigterm_fails_readiness_serves_on_and_ends_with_0(start: Start) -> None:
    service = start(drain_s="20")
    service.await_ready()
    kept = httpx.Client(base_url=service.url, trust_env=False)
    assert "connection" not in kept.post("/predict", json={"text": "a good film"}).headers
    service.process.send_signal(signal.SIGTERM)
    while service.ready() is not None:
        pass
    refused = kept.get("/readyz")
    assert refused.status_code == 503
    assert refused.json().keys() >= {"error", "fix"}
    assert httpx.get(f"{service.url}/health", trust_env=False).status_code == 503
    assert httpx.get(f"{service.url}/livez", trust_env=False).status_code == 200
    for _ in range(2):
        answer = kept.post("/predict", json={"text": "a good film"})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    service.process.send_signal(signal.SIGTERM)  # no need to wait for the rest of the drain
    assert service.process.wait() == 0
    with pytest.raises(httpx.ConnectError):
        kept.get("/livez")
    kept.close()


def test_a_worker_that_is_told_to_end_is_replaced_and_nothing_is_lost(start: Start) -> None:
    service = start()
    service.await_ready()
    (leaving,) = service.workers()
    with Client(service.url, retries=0) as client:
        client.predict("a good film")
        leaving.send_signal(signal.SIGTERM)
        while leaving.is_running() and leaving.status() != psutil.STATUS_ZOMBIE:
            assert client.predict("a good film").label is not None
    (replacement,) = service.workers()
    assert replacement.pid != leaving.pid
    assert '"event": "worker died"' not in service.log.read_text()


def test_workers_end_when_their_supervisor_is_killed_and_free_the_address(start: Start) -> None:
    service = start(workers=2)
    service.await_ready(2)
    workers = service.workers()
    service.process.kill()
    service.process.wait()
    psutil.wait_procs(workers)
    assert [worker for worker in workers if worker.is_running()] == []
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", service.port))


def test_a_restart_is_waited_for_in_the_backlog(start: Start) -> None:
    service = start()
    service.await_ready()
    (worker,) = service.workers()
    worker.kill()
    with Client(service.url, retries=0) as client:  # the only worker is gone, and no request is refused
        assert client.predict("a good film").label is not None


def test_as_process_1_it_reaps_orphans(tmp_path: Path, champion: Bundle) -> None:
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare may not make a process namespace here")
    project = make_service_project(tmp_path / "project", champion)
    script = f"""
import os, subprocess, sys, threading, time
from pathlib import Path
from lnmt.serving.server import serve
from lnmt.settings import Settings

def watch():
    while not [pid for pid in os.listdir("/proc") if pid.isdecimal() and int(pid) > 1]:
        time.sleep(0.01)
    orphan = subprocess.run(
        ["sh", "-c", "sleep 0.1 & echo $!"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    while Path("/proc", orphan).exists():  # a zombie is there still
        time.sleep(0.01)
    os.kill(1, 15)

assert os.getpid() == 1
threading.Thread(target=watch).start()
sys.exit(serve(Settings(project=Path({str(project)!r}), port=0), name="sentiment"))
"""
    done = subprocess.run([*alone, sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_route_of_bentoml_is_ours_or_is_passed_on(repository: Path) -> None:
    code = """
from starlette.routing import Mount
from lnmt.serving.service import Lnmt
for route in Lnmt.bento_app().routes:
    print(route.path + ("/{rest:path}" if isinstance(route, Mount) else ""))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    ours = {"/livez", "/readyz", "/healthz", "/metrics", "/", "/predict"}
    assert set(done.stdout.split()) - ours == set(PATHS)


def test_with_a_certificate_it_speaks_tls_and_nothing_else(start: Start, tmp_path: Path) -> None:
    files = make_tls_files(tmp_path / "tls")
    service = start(tls_certificate=str(files.certificate), tls_key=str(files.key))
    trusting = ssl.create_default_context(cafile=files.certificate)
    address = f"https://127.0.0.1:{service.port}"
    with Client(address, transport=httpx.HTTPTransport(verify=trusting), retries=100) as client:
        assert client.predict("a good film").label is not None  # who comes early tries again
    while f"is served at {address}" not in service.log.read_text():
        pass  # the supervisor looks now and then
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{address}/livez", trust_env=False)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/livez", trust_env=False)
