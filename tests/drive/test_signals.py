"""Ctrl-C and SIGTERM of `lnmt run`: the stage below is stopped, nothing stays behind, the lock is free."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lnmt.drive.environment import child_environment
from lnmt.drive.holders import holders
from lnmt.drive.run import run_stage_by_dvc
from lnmt.settings import Settings


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_the_stage(settings: Settings, number: int, code: int) -> None:
    run_stage_by_dvc("ingest", settings)
    (settings.project / "ingest.txt").write_text("wait\n")
    with subprocess.Popen(
        [sys.executable, "-m", "lnmt", "run", "ingest", "--verbose"],
        cwd=settings.project,
        env=child_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("> python stage.py"):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(number)
        told = process.stderr.read()
        assert process.wait(60) == code
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert holders(settings.project) == []
    assert (settings.project / "data/raw/content.txt").read_text() == "well"
    if number == signal.SIGINT:
        assert "interrupted" in told
    (settings.project / "ingest.txt").write_text("again\n")
    assert run_stage_by_dvc("ingest", settings).outcome == "ran"
    assert Path(settings.project / "data/raw/content.txt").read_text() == "again"
