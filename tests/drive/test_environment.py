from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lnmt.drive.environment import child_environment, prefect_environment
from lnmt.settings import Settings
from lnmt.telemetry import quiet_environment


def test_a_child_finds_this_environments_programs_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/somewhere")
    environment = child_environment(Settings(project=tmp_path))
    assert environment["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/somewhere"
    assert environment["LNMT_PROJECT"] == environment["PWD"] == str(tmp_path)
    assert environment["LNMT_STATE"] == str(tmp_path / ".lnmt")
    assert quiet_environment().items() <= environment.items()


def test_prefect_stays_inside_the_project_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    assert prefect_environment(Settings(project=tmp_path))["PREFECT_HOME"] == str(tmp_path / ".lnmt/prefect")
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    assert prefect_environment(Settings(project=tmp_path))["PREFECT_HOME"] == "/elsewhere"


def test_openvino_uses_its_stub_in_place_of_its_telemetry() -> None:
    code = (
        "from lnmt.telemetry import quiet; quiet(); import openvino.tools.ovc.telemetry_utils as found; "
        "print(found.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
