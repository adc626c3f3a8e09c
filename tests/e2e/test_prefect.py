"""One pipeline, two drivers: a real Prefect server with a process worker, and DVC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from lnmt.stages import STAGES

if TYPE_CHECKING:
    from tests.e2e.conftest import Prefect

pytestmark = pytest.mark.timeout(900)


def dvc_repro(prefect: Prefect) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=prefect.project,
        env=prefect.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def logs(project: Path) -> dict[str, int]:
    """When each stage last ran through a driver of ours."""
    return {path.name: path.stat().st_mtime_ns for path in (project / ".lnmt/progress").glob("*.log")}


def test_every_deployment_is_there_with_its_schedule(prefect: Prefect) -> None:
    found = httpx.post(f"{prefect.url}/deployments/filter", json={}, trust_env=False).json()
    schedules = {
        entry["entrypoint"]: [schedule["schedule"].get("cron") or schedule["schedule"]["interval"] for schedule in
                              entry["schedules"]]
        for entry in found
    }  # fmt: skip
    assert schedules == {
        "flows.lifecycle.lifecycle": ["0 2 * * *"],
        "flows.monitor.monitor": [900.0],
        "flows.predict.predict": [],
        "flows.release.release": [],
        "flows.train.train": [],
    }


def test_monitoring_before_a_release_is_no_failure(prefect: Prefect) -> None:
    assert prefect.run_deployment("monitor/default") == "COMPLETED"


def test_a_lifecycle_by_prefect_leaves_dvc_nothing_to_do(prefect: Prefect) -> None:
    assert prefect.run_deployment("lifecycle/default") == "COMPLETED"
    lock = (prefect.project / "dvc.lock").read_text()
    assert sorted(logs(prefect.project)) == sorted(f"{stage.name}.log" for stage in STAGES)
    assert "Data and pipelines are up to date." in dvc_repro(prefect)
    assert (prefect.project / "dvc.lock").read_text() == lock


def test_a_repro_by_dvc_leaves_prefect_nothing_to_do(prefect: Prefect) -> None:
    params = prefect.project / "params.yaml"
    params.write_text(params.read_text().replace("max_steps: 8", "max_steps: 9"))
    assert "Running stage 'train'" in dvc_repro(prefect)
    lock, before = (prefect.project / "dvc.lock").read_text(), logs(prefect.project)
    assert prefect.run_deployment("train/default") == "COMPLETED"
    assert (prefect.project / "dvc.lock").read_text() == lock
    assert logs(prefect.project) == before
