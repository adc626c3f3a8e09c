"""The demo, whole, on the tiny profile: it ends well, opens no connection but loopback, leaves no process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lnmt.cli import run
from lnmt.drive.environment import child_environment
from lnmt.settings import load_settings
from lnmt.stages import STAGES

pytestmark = pytest.mark.timeout(600)

LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.[\d.]+)"')
ADDRESS = re.compile(r"sa_family=AF_INET6?\b")
STRACE = shutil.which("strace")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("demo") / "project"
    assert run(["init", str(project), "--profile", "tiny", "--yes"]) == 0
    assert run(["stage", "ingest", "--project", str(project)]) == 0  # packages and data are there from now on
    fetch_encoder(project)
    return project


def fetch_encoder(project: Path) -> None:
    from lnmt.hub import fetch
    from lnmt.params import load_params
    from lnmt.progress import Progress

    train = load_params(project / "params.yaml").train
    cache = load_settings(project).cache
    fetch(train.encoder, digest=train.digest, cache=cache, progress=Progress(show=False), offline=False, root=project)


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_the_demo_ends_well_and_talks_to_this_machine_alone(project: Path, repository: Path, tmp_path: Path) -> None:
    trace = tmp_path / "connections"
    watch = [str(STRACE), "--follow-forks", "--seccomp-bpf", "--trace=connect,sendto,sendmsg", f"--output={trace}"]
    done = subprocess.run(
        [*watch, sys.executable, "-m", "examples.demo", "--project", str(project)],
        cwd=repository,
        env={**child_environment(load_settings(project)), "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "database is locked" not in done.stdout + done.stderr
    calls = [line for line in trace.read_text(errors="replace").splitlines() if ADDRESS.search(line)]
    assert len(calls) > 100, "the service was talked to, so strace saw something"
    assert [line for line in calls if not LOOPBACK.search(line)] == []

    result = json.loads((project / "reports" / "demo.json").read_text())
    check(result)
    assert {name for name, _ in result["pages"]} == {"Prefect", "MLflow", "reports"}
    for page in (project / "reports").rglob("*.html"):
        assert "http" not in external_references(page.read_text(errors="replace")), page
    mine = [process.pid for process in psutil.process_iter(["cmdline"]) if str(project) in str(process.info["cmdline"])]
    assert mine == []


def check(result: dict[str, Any]) -> None:
    """Every part of the last screen is there, and fits together."""
    assert set(result["metrics"]) == {"this model", "majority", "tfidf", "vader"}
    assert [*result["seconds"]["stages"]] == [stage.name for stage in STAGES]
    release, reviews, tweets = result["release"], result["traffic"]["reviews"], result["traffic"]["tweets"]
    if result["engines"]["winner"] == "torch-fp32":  # the reference itself: there is nothing to release beside it
        assert (release["phase"], release["challenger"], reviews["challenger_share"]) == ("promoted", None, 0)
    else:
        assert release["phase"] == "canary"
        assert 0 < reviews["challenger_share"] < 1
    assert tweets["challenger_share"] == 0, "promoted before the tweets came"
    assert result["drift"]["tweets"]["rows"] >= 50
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", result["trace"]["data"])
    assert re.match(r"[0-9a-f]{40}", result["trace"]["commit"])
    assert result["trace"]["bundle"] == (release["challenger"] or release["champion"])


def external_references(page: str) -> str:
    """What a page would load from elsewhere: sources of scripts, styles and pictures."""
    return " ".join(re.findall(r'(?:<script[^>]+src|<link[^>]+href|<img[^>]+src)="([^"]+)"', page))
