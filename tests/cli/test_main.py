"""Errors of the command: message, exit code, no traceback."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lnmt.cli import pipeline, run
from lnmt.errors import GateBlocked, LnmtError, Transient


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LnmtError("no such column", value="txt", fix="rename it"), 1, "error: no such column\n  value: txt\n"),
        (GateBlocked("too low"), 2, "error: too low"),
        (Transient("no network"), 75, "error: no network"),
        (OSError(errno.ENOSPC, "No space left on device", "data/raw"), 1, "the disk is full\n  where: data/raw"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_a_message_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "_run", fail)
    assert run(["run"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["run", "--wiat", "3"], "--wiat"),
        (["run", "--wait", "long"], "--wait"),
        (["stage"], "Missing argument"),
    ],
)
def test_a_wrong_call_exits_1_since_2_is_a_gate(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(arguments) == 1
    assert message in capsys.readouterr().err


def test_an_unknown_stage_has_its_neighbour_named(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "trian", "--project", str(repository)]) == 1
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_outside_a_project_the_way_in_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["run"]) == 1
    assert "lnmt init DIRECTORY" in capsys.readouterr().err


def test_a_setting_that_does_not_fit_is_named(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LNMT_PORT", "http")
    assert run(["run", "--project", str(repository)]) == 1
    assert "LNMT_PORT" in capsys.readouterr().err


def test_a_stage_says_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text("name: x\n")
    assert run(["stage", "ingest", "--project", str(tmp_path)]) == 1
    assert "params.yaml does not fit" in capsys.readouterr().err
    told = json.loads((tmp_path / ".lnmt/progress/ingest.exit.json").read_text())
    assert told["exit_code"] == 1
    assert told["what"].startswith("params.yaml does not fit")


def test_python_m_lnmt_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "lnmt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lnmt ")
