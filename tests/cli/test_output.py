from __future__ import annotations

import json
from pathlib import Path

import pytest

from lnmt.cli.output import show, table
from lnmt.drive.bars import bars
from lnmt.drive.run import StageResult


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert table(["label", "rows"], [("a", 1), ("longer", 200)]) == ["label   rows", "a       1", "longer  200"]


def test_json_for_programs_and_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    show({"path": Path("x")}, ["one", "two"], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"path": "x"}
    show({}, ["one", "two"], as_json=False)
    assert capsys.readouterr().out == "one\ntwo\n"


def test_bars_print_notes_waiting_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with bars("ingest") as shown:
        shown.progress({"what": "rows", "done": 1, "total": None, "unit": "rows", "loss": 0.25})
        shown.progress({"metrics": {"loss": 0.5}, "step": 1})
        shown.progress({"note": "3 rows"})
        shown.log("chatter of DVC")
        shown.log("another run is at work here, waiting for it at most 3 s")
        shown.ended(StageResult("ingest", "ran", 1.25, {}))
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "  3 rows", "another run is at work here, waiting for it at most 3 s", "ingest    ran (1.2 s)",
    ]  # fmt: skip
