"""The three stages of the data, run as `lnmt stage` runs them, for each task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnmt.data.labels import check_words, parse_labels
from lnmt.files import read_json
from lnmt.settings import Settings
from lnmt.stages import run_stage
from lnmt.types import Task
from tests.data.small_tables import read_table
from tests.task_kit import LABELS, ROWS, TASKS, make_task_project, task_rows


@pytest.mark.parametrize("task", TASKS)
def test_from_source_to_splits(tmp_path: Path, task: Task) -> None:
    make_task_project(tmp_path, task)
    for name in ("ingest", "validate", "process"):
        run_stage(name, Settings(project=tmp_path, cache=tmp_path / "cache"))

    manifest = read_json(tmp_path / "data/processed/manifest.json")
    assert manifest["task"] == task
    assert manifest["labels"] == (LABELS[task] or [])
    assert sum(manifest["rows"].values()) == ROWS  # nothing quarantined, nothing dropped
    train = read_table(tmp_path / "data/processed/train")
    cells, ids = [row["label"] for row in train], [row["id"] for row in train]
    targets = parse_labels(cells, ids, task, manifest["labels"], where="train")
    assert len(targets) == (0 if task == "text-generation" else len(train))
    if isinstance(targets, list):
        check_words(targets, [row["text"] for row in train], ids, where="train")
        assert {place for target in targets for place in target.tolist()} == set(range(5))
    given = {f"source/rows/{row['id']}": row for row in task_rows(task)}
    if task == "text-regression":
        assert np.asarray(targets).tolist() == [float(given[name]["label"]) for name in ids]
    assert [row["text"] for row in train] == [given[name]["text"] for name in ids]
