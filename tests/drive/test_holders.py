from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lnmt.drive.environment import child_environment
from lnmt.drive.holders import Busy, holders, patiently
from lnmt.drive.run import run_stage_by_dvc
from lnmt.errors import Transient
from lnmt.settings import Settings
from tests.family import kill_family


def test_a_second_run_says_who_holds_the_project_and_gives_up_in_time(settings: Settings) -> None:
    (settings.project / "ingest.txt").write_text("wait\n")
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "ingest"]
    with subprocess.Popen(
        command,
        cwd=settings.project,
        env=child_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as first:
        try:
            assert first.stdout is not None
            for line in first.stdout:
                if line.startswith(b"> python stage.py"):
                    break
            with pytest.raises(Transient, match="another run is at work") as caught:
                run_stage_by_dvc("ingest", settings, wait_s=0.2)
            assert caught.value.exit_code == 75
            assert str(caught.value.value).startswith(f"pid {first.pid}, running since ")
            assert "dvc repro --single-item ingest" in str(caught.value.value)
        finally:
            kill_family(first.pid)


def test_two_runs_at_once_make_the_outputs_once(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", "ingest"]
        environment = child_environment(settings)
        other = pool.submit(
            subprocess.run, command, cwd=settings.project, env=environment, capture_output=True, check=False
        )
        mine = run_stage_by_dvc("ingest", settings, wait_s=60)
        other.result()
    assert mine.outcome in {"ran", "up to date"}
    assert (settings.project / "data/raw/content.txt").read_text() == "well"


def test_holders_passes_over_itself_and_the_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    lock = {
        "write": {"data/raw": {"pid": os.getpid(), "cmd": "me"}, "data/validated": {"pid": dead.pid, "cmd": "gone"}},
        "read": {"data/incoming": [{"pid": os.getppid(), "cmd": "parent"}]},
    }
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    assert [holder.pid for holder in holders(tmp_path)] == [os.getppid()]


def test_patiently_calls_again_until_the_lock_is_free(tmp_path: Path) -> None:
    held = [Busy("held"), Busy("held")]

    def call() -> str:
        if held:
            raise held.pop()
        return "done"

    told: list[str] = []
    assert patiently(call, tmp_path, 30, told.append) == "done"
    assert told == ["another run is at work here, waiting for it at most 30 s: held"]
