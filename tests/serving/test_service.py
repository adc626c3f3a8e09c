"""The real thing: processes on a free port, from this checkout, and BentoML's from a built bento."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from lnmt.bundles import Bundle, BundleStore
from lnmt.bundles.packed import pack_champion
from lnmt.client import Client
from lnmt.errors import LnmtError, Transient
from lnmt.monitoring.events import find_event, read_events
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.serving.server import free_port, running_service, serve
from lnmt.settings import Settings
from tests.task_kit import task_params

NAME = "sentiment"


@pytest.fixture
def project(tmp_path: Path, repository: Path) -> Path:
    """A directory with the params.yaml of this checkout."""
    (tmp_path / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    return tmp_path


def test_it_serves_follows_the_deployment_and_leaves_nothing(
    project: Path, champion: Bundle, challenger: Bundle
) -> None:
    settings = Settings(project=project, store_text=True, threads=1)
    pack_champion(champion, project)
    before = set(psutil.Process().children(recursive=True))  # servers of other tests
    with running_service(settings, name=NAME) as url, Client(url) as client:
        family = set(psutil.Process().children(recursive=True)) - before
        answer = client.predict("a good film", user="anna")
        assert (answer.version, answer.arm) == (champion.digest, "champion")
        event = find_event(settings.events_dir, answer.prediction_id)
        assert event is not None
        assert (event.generation, event.text, event.label) == (0, "a good film", answer.label)
        client.feedback(answer.prediction_id, "positive")

        BundleStore(settings.bundles_dir).put(challenger)
        with DeploymentStore(settings.database_url) as store:
            store.swap(0, Deployment(NAME, 0, "promoted", challenger.digest, None, 0.0, 5.0, "test"))
        seen = [answer.version]
        while seen[-1] != challenger.digest:  # ends by the test's own time limit
            seen.append(client.predict("okay").version)
        assert sorted(set(seen)) == sorted({champion.digest, challenger.digest})
        assert len(list(read_events(settings.events_dir))) == len(seen)

        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
        assert f'lnmt_requests_total{{method="POST",route="/predict",status="200"}} {len(seen)}.0' in metrics
        assert "bentoml_" not in metrics
        # what is BentoML's alone is answered by it
        assert httpx.get(f"{url}/schema.json", trust_env=False).json()["name"] == "lnmt"
        # in a process of its own: to import it warns of what it uses
        typed = f'import bentoml; print(bentoml.SyncHTTPClient("{url}").predict(text="okay")["version"])'
        asked = subprocess.run([sys.executable, "-c", typed], capture_output=True, text=True, check=True, timeout=120)
        assert asked.stdout.strip() == challenger.digest
    assert len(family) >= 2
    assert [process for process in family if process.is_running()] == []
    assert '"event": "generation switched"' in (settings.state_dir / "service.log").read_text()


PLUGIN = """
import os
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    raise RuntimeError("no colour here")
"""


def test_a_service_that_cannot_start_shows_its_log(project: Path) -> None:
    (project / "only_in_a_worker.py").write_text(PLUGIN)
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "plugins": ["only_in_a_worker"]}))
    with (
        pytest.raises(LnmtError, match="the service ended") as failed,
        running_service(Settings(project=project), name=NAME),
    ):
        pass
    assert "no worker can start" in str(failed.value.fix)
    assert "no colour here" in str(failed.value.fix)


def test_a_missing_plugin_is_said_before_anything_starts(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump({**params, "plugins": ["no_such_plugin"]}))
    with pytest.raises(LnmtError, match="no_such_plugin"):
        serve(Settings(project=project), name=NAME)


def test_a_taken_port_is_said_before_anything_starts(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Transient, match="the port is taken") as refused:
            serve(Settings(project=project, port=port), name=NAME)
    assert refused.value.where == f"127.0.0.1:{port}"
    assert refused.value.fix is not None
    assert "LNMT_PORT" in refused.value.fix
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_foreign_address_is_said(project: Path, host: str) -> None:
    with pytest.raises(LnmtError, match="no address of this machine"):
        serve(Settings(project=project, host=host, auth=True), name=NAME)


def test_another_projects_model_is_said(project: Path) -> None:
    with pytest.raises(LnmtError, match="the project has another model"):
        serve(Settings(project=project), name="other")


def test_a_project_of_another_task_is_said(project: Path) -> None:
    params = {**task_params("text-generation", "rows.csv"), "name": NAME}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(LnmtError, match=r"does not answer this task(?s:.*)params\.yaml: task(?s:.*)text-generation"):
        serve(Settings(project=project), name=NAME)


def test_sigterm_ends_lnmt_serve_with_0(project: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from lnmt.serving.server import serve
from lnmt.settings import Settings
sys.exit(serve(Settings(project=Path({str(project)!r}), port={free_port()}), name="{NAME}"))
"""
    errors = project / "errors"
    with errors.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)
    try:
        while b"not ready: no model released yet: lnmt release" not in errors.read_bytes():
            assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert len(family) >= 1
        assert [child for child in family if child.is_running()] == []
    finally:
        process.kill()
        process.wait()


# --- the bento


def _bentoml(arguments: list[str], cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bentoml", *arguments]
    environment = {**os.environ, "BENTOML_HOME": str(home)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=True)


@contextmanager
def _served(tag: str, cwd: Path, home: Path) -> Iterator[str]:
    """`bentoml serve TAG`, as a user starts it: no settings, somewhere else."""
    port = free_port()
    log = cwd / "bento.log"
    environment = {**os.environ, "BENTOML_HOME": str(home), "XDG_STATE_HOME": str(cwd / "state")}
    command = [sys.executable, "-P", "-m", "bentoml", "serve", tag, "--port", str(port), "--host", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                while not client.ready():
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def test_a_built_bento_serves_without_the_source_tree(tmp_path: Path, repository: Path, champion: Bundle) -> None:
    tree, home, elsewhere = tmp_path / "tree", tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", ".*cache")
    shutil.copytree(repository / "lnmt", tree / "lnmt", ignore=ignore)
    for name in ("bentofile.yaml", ".bentoignore", "params.yaml"):
        shutil.copy(repository / name, tree / name)
    # A mark by which the bento's own code is told from an installed one.
    source = tree / "lnmt" / "__init__.py"
    source.write_text(source.read_text() + '\n__version__ += "+bento"\n')
    (tree / "secret.txt").write_text("not to be packed")
    pack_champion(champion, tree)

    tag = _bentoml(["build", "-o", "tag"], tree, home).stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    shutil.rmtree(tree)
    [packed] = [path for path in (home / "bentos" / "lnmt-service").iterdir() if path.is_dir()]
    before = sorted(path.relative_to(packed).as_posix() for path in packed.rglob("*"))
    assert "src/models/champion/model.safetensors" in before
    assert "src/lnmt/serving/page.html" in before
    assert "src/secret.txt" not in before

    with _served(tag, elsewhere, home) as url, Client(url) as client:
        assert httpx.get(f"{url}/v2", trust_env=False).json()["version"].endswith("+bento")
        answer = client.predict("a good film")
        assert answer.version == champion.digest
        assert httpx.get(f"{url}/docs", trust_env=False).status_code == 200
    # State is the user's; the bento stays as it was built.
    event = find_event(elsewhere / "state" / "lnmt" / "events", answer.prediction_id)
    assert event is not None
    assert event.generation == 0
    after = sorted(path.relative_to(packed).as_posix() for path in packed.rglob("*") if "__pycache__" not in path.parts)
    assert after == before


def test_the_bentos_packages_are_those_of_the_project(repository: Path) -> None:
    wanted = yaml.safe_load((repository / "bentofile.yaml").read_text())["python"]["packages"]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [package for package in wanted if package not in project] == []
