from __future__ import annotations

import _thread
import json
from pathlib import Path

import psutil
import pytest

from lnmt.drive.repo import output_hashes, stale
from lnmt.drive.run import run_stage_by_dvc
from lnmt.errors import GateBlocked, LnmtError, Transient, UnknownName
from lnmt.settings import Settings


def behave(settings: Settings, name: str, how: str) -> None:
    (settings.project / f"{name}.txt").write_text(how + "\n")


def test_a_stale_stage_runs_and_a_fresh_one_does_not(settings: Settings) -> None:
    records: list[dict[str, object]] = []
    log: list[str] = []
    first = run_stage_by_dvc("ingest", settings, on_progress=records.append, on_log=log.append)
    second = run_stage_by_dvc("ingest", settings)
    assert (first.outcome, second.outcome) == ("ran", "up to date")
    assert (settings.project / "data/raw/content.txt").read_text() == "well"
    assert first.outputs == second.outputs == output_hashes(settings.project, "ingest")
    assert set(first.outputs) == {"data/raw"}
    assert [(r["what"], r["done"], r["total"]) for r in records][-1] == ("rows", 2, 2)
    assert "Running stage 'ingest':" in log
    assert stale(settings.project, "ingest") == []


def test_outputs_of_inputs_seen_before_come_out_of_the_run_cache(settings: Settings) -> None:
    run_stage_by_dvc("ingest", settings)
    behave(settings, "ingest", "otherwise")
    assert run_stage_by_dvc("ingest", settings).outcome == "ran"
    behave(settings, "ingest", "well")
    assert run_stage_by_dvc("ingest", settings).outcome == "restored"
    assert (settings.project / "data/raw/content.txt").read_text() == "well"


@pytest.mark.parametrize(("how", "kind", "code"), [("user", LnmtError, 1), ("gate", GateBlocked, 2)])
def test_the_stages_own_error_and_exit_code_come_through_dvc(
    settings: Settings, how: str, kind: type[LnmtError], code: int
) -> None:
    behave(settings, "ingest", how)
    with pytest.raises(LnmtError) as caught:
        run_stage_by_dvc("ingest", settings)
    assert type(caught.value) is kind
    assert caught.value.exit_code == code
    if how == "user":
        assert str(caught.value) == (
            "no such column\n  where: params.yaml: ingest\n  value: txt\n  allowed: text\n  fix: rename it"
        )


def test_a_failure_brings_the_last_good_outputs_back_and_leaves_the_stage_stale(settings: Settings) -> None:
    run_stage_by_dvc("ingest", settings)
    run_stage_by_dvc("validate", settings)
    behave(settings, "validate", "transient")
    with pytest.raises(Transient, match="no network"):
        run_stage_by_dvc("validate", settings)
    assert (settings.project / "data/validated/content.txt").read_text() == "well"
    assert (settings.project / "data/raw/content.txt").read_text() == "well"
    assert stale(settings.project, "ingest") == []
    assert stale(settings.project, "validate") != []


def test_a_killed_stage_is_told_with_its_last_lines(settings: Settings) -> None:
    behave(settings, "ingest", "killed")
    # A shell between DVC and the stage says 137 for a signal 9; without one it is -9.
    with pytest.raises(LnmtError, match=r"(?s)ingest was stopped.*exited with (-9|137)"):
        run_stage_by_dvc("ingest", settings)


def test_an_unknown_stage_is_refused_before_dvc_is_asked(settings: Settings) -> None:
    with pytest.raises(UnknownName, match="did you mean 'ingest'"):
        run_stage_by_dvc("ingets", settings)


def test_ctrl_c_stops_the_stage_and_brings_its_last_outputs_back(settings: Settings) -> None:
    run_stage_by_dvc("ingest", settings)
    behave(settings, "ingest", "wait")
    before = set(psutil.Process().children(recursive=True))

    def interrupt(_: object) -> None:
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        run_stage_by_dvc("ingest", settings, on_progress=interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert (settings.project / "data/raw/content.txt").read_text() == "well"
    told = json.loads((settings.state_dir / "progress/ingest.exit.json").read_text())
    assert told == {"exit_code": 130, "what": "ingest was interrupted"}


def test_a_directory_without_dvc_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match=r"(?s)DVC cannot work here.*dvc init"):
        run_stage_by_dvc("ingest", Settings(project=tmp_path))
