"""A project of any task whose model was not trained, ready for the stage `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lnmt.bundles import Bundle, Lineage
from lnmt.data.labels import join_names
from lnmt.files import read_json, write_json
from lnmt.params import EvaluateParams, Gate, load_params
from lnmt.progress import Progress
from lnmt.stages import StageIO, find_stage
from lnmt.training.evaluate import evaluate
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import LABELS, REPOSITORY, Row, task_rows

OPTIONS = EvaluateParams(
    baselines=[], slices=["length"], length_edges=[8], min_slice_rows=5, bootstrap_samples=60, confidence=0.9, seed=7
)
SPLITS = {"train": 80, "validation": 40, "test": 50, "holdout": 0}


def make_project(root: Path, task: Task, **draft: Any) -> Bundle:
    """data/processed and models/trained; the same arguments give the same."""
    rows = task_rows(task, sum(SPLITS.values()), seed=5)
    start = 0
    for name, count in SPLITS.items():
        write_split(root, name, rows[start : start + count])
        start += count
    manifest = {"task": task, "labels": LABELS[task] or [], "slices": ["half"], "processors": [], "rows": SPLITS}
    write_json(root / "data/processed/manifest.json", manifest)
    return task_bundle(root / "models/trained", task, **draft)


def write_split(root: Path, name: str, rows: Sequence[Row]) -> None:
    """A split as `process` leaves it, with a slice column `half`."""
    cells = [row.get("label") for row in rows]
    columns = {
        "id": [row["id"] for row in rows],
        "text": [row["text"] for row in rows],
        "label": [join_names(cell) if isinstance(cell, list) else cell for cell in cells],
        "half": ["first" if place < len(rows) / 2 else "second" for place in range(len(rows))],
    }
    directory = root / "data/processed" / name
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns, pa.schema([(column, pa.string()) for column in columns]))
    pq.write_table(table, directory / "part-00000.parquet")


def run(root: Path, gates: Sequence[Gate] = (), **options: Any) -> Any:
    """The stage; returns metrics.json."""
    whole = load_params(REPOSITORY / "params.yaml")
    changed = {"evaluate": OPTIONS.model_copy(update=options), "gate": list(gates)}
    params = whole.model_copy(update=changed).only(("plugins", "evaluate", "gate"))
    lineage = Lineage(commit=None, dirty=False, params="sha256:1", lock="sha256:2")
    progress = Progress(root / "progress.jsonl", show=False)
    stage = find_stage("evaluate")
    evaluate(params, StageIO(root, stage, root / "work", root / "cache", True, lineage, progress, root / ".lnmt"))
    return read_json(root / "reports/evaluation/metrics.json")
