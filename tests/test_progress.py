import json
from pathlib import Path

import pytest

from lnmt.progress import Progress


def test_every_bar_leaves_its_last_state_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    progress = Progress(path, show=False)
    with progress.bar("training", total=3, unit="samples") as bar:
        for loss in (3.0, 2.0, 1.0):
            bar.advance(1, loss=loss)
    last = json.loads(path.read_text().splitlines()[-1])
    last.pop("time")
    assert last == {"what": "training", "total": 3, "unit": "samples", "done": 3, "loss": 1.0}


def test_notes_are_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(tmp_path / "a.jsonl", show=False)
    progress.note("precision bf16", faster=1.4)
    line = json.loads((tmp_path / "a.jsonl").read_text())
    assert (line["note"], line["faster"]) == ("precision bf16", 1.4)
    assert capsys.readouterr().err == "precision bf16\n"


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    Progress(tmp_path / "a.jsonl", show=False).note("old")
    Progress(tmp_path / "a.jsonl", show=False)
    assert (tmp_path / "a.jsonl").read_text() == ""
