"""Small projects for the tests of `validate` and `process`: tables of a few rows, and one stage run on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from lnmt.bundles import Lineage
from lnmt.data.process import process
from lnmt.data.tables import ShardWriter, read_batches, table_schema
from lnmt.data.validate import validate
from lnmt.files import write_json
from lnmt.params import Params, parse_params
from lnmt.progress import Progress
from lnmt.stages import StageIO, find_stage
from lnmt.types import WITHOUT_LABELS, Task
from tests.data.sources_kit import files_entry, ingest_section

Row = Mapping[str, str | None]

NOUNS = (
    "plot",
    "actor",
    "scene",
    "music",
    "story",
    "ending",
    "light",
    "humour",
    "pace",
    "mood",
    "voice",
    "cut",
    "cast",
)
LABELS = ("negative", "neutral", "positive")


def rows(number: int, start: int = 0) -> list[dict[str, str | None]]:
    """Good rows of wordings that all differ, the labels in turn, half of them in each domain."""
    made: list[dict[str, str | None]] = []
    for place in range(start, start + number):
        text = f"The {NOUNS[place % 13]} and the {NOUNS[place // 13 % 13]} were number {place} of all"
        domain = "film" if place % 2 else "product"
        made.append({"id": f"r{place}", "text": text, "label": LABELS[place % 3], "domain": domain})
    return made


def params(
    validate: Mapping[str, Any] | None = None,
    process: Mapping[str, Any] | None = None,
    task: Task = "text-classification",
) -> Params:
    """The shipped parameters, small enough for a few rows, with changes."""
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["task"] = task
    raw["ingest"] = _ingest(task)
    labels = None if task in WITHOUT_LABELS else list(LABELS)
    raw["validate"] |= {"min_rows": 10, "labels": labels, **(validate or {})}
    split = {"train": 0.6, "validation": 0.2, "test": 0.2}
    raw["process"] |= {"split": split, "holdout": {}, **(process or {})}
    return parse_params(raw, where="params.yaml")


def _ingest(task: Task) -> dict[str, Any]:
    """A section that fits the task; the stages here do not read it."""
    entry = files_entry("rows.csv")
    entry["columns"]["label"] = None if task == "text-generation" else "label"
    return ingest_section(entry)


def write_table(directory: Path, entries: Sequence[Row], slices: Sequence[str] = ("domain",)) -> None:
    """A table of the rows, several to a file."""
    schema = table_schema(slices)
    with ShardWriter(directory, schema, 1000) as writer:
        writer.write(pa.RecordBatch.from_pylist([dict(row) for row in entries], schema))


def read_table(directory: Path) -> list[dict[str, Any]]:
    """All rows of a table."""
    return [row for batch in read_batches(directory) for row in batch.to_pylist()]


def stage_io(root: Path, name: str) -> StageIO:
    """What the stage gets from `run_stage`, without a project around it."""
    lineage = Lineage(commit=None, dirty=False, params="sha256:0", lock="sha256:0")
    work = root / ".lnmt" / "work" / name
    return StageIO(root, find_stage(name), work, root / "cache", True, lineage, Progress(show=False), root / ".lnmt")


def run_validate(root: Path, entries: Sequence[Row], task: Task = "text-classification", **changes: Any) -> None:
    """Write data/raw and run `validate` with changed parameters."""
    write_table(root / "data" / "raw", entries)
    validate(params(validate=changes, task=task), stage_io(root, "validate"))


def write_validated(
    root: Path,
    entries: Sequence[Row],
    slices: Sequence[str] = ("domain",),
    task: Task = "text-classification",
    labels: Sequence[str] = LABELS,
) -> None:
    """data/validated, as `validate` leaves it."""
    validated = root / "data" / "validated"
    write_table(validated, entries, slices)
    names = [] if task in WITHOUT_LABELS else list(labels)
    manifest = {"task": task, "labels": names, "slices": list(slices), "rows": len(entries)}
    write_json(validated / "manifest.json", manifest)


def run_process(
    root: Path,
    entries: Sequence[Row],
    task: Task = "text-classification",
    labels: Sequence[str] = LABELS,
    **changes: Any,
) -> None:
    """Write data/validated and run `process` with changed parameters."""
    write_validated(root, entries, task=task, labels=labels)
    process(params(process=changes, task=task), stage_io(root, "process"))
