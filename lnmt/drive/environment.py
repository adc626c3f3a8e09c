"""The environments of the processes that LNMT starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lnmt.settings import Settings
from lnmt.telemetry import quiet_environment


def child_environment(settings: Settings) -> dict[str, str]:
    """For `dvc` and the stage below it: this environment's programs first, this project, no telemetry."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        **quiet_environment(),
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PWD": str(settings.project.absolute()),
        "PYTHONUNBUFFERED": "1",
        # OpenMP's threads spin for milliseconds while they wait: beside any other busy process that made a
        # training step 3.5 times slower (two cores, 0.88 s against 0.25 s); so they soon sleep instead
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "10000"),
        "LNMT_PROJECT": str(settings.project.absolute()),
        "LNMT_STATE": str(settings.state_dir),
    }


def prefect_environment(settings: Settings) -> dict[str, str]:
    """For Prefect in this process, set before it is imported.

    With PREFECT_API_URL set, that server is used; without it Prefect starts one for the run, whose
    database is `.lnmt/prefect`, made here: Prefect makes no parents. A variable that the user has set
    stays as it is.
    """
    home = settings.state_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    ours = {
        "PREFECT_HOME": str(home),
        # measured on two busy cores: 20 s, the default, is short
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        # a second flow at the same time waits for SQLite instead of failing
        "PREFECT_SERVER_DATABASE_TIMEOUT": "120",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    return {**quiet_environment(), **{name: os.environ.get(name, value) for name, value in ours.items()}}
