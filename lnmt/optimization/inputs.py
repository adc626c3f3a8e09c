"""What `optimize` takes from the stages before it, checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.data.labels import parse_labels
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import read_json
from lnmt.optimization.answers import Validation
from lnmt.params import EvaluateParams
from lnmt.training.slices import check_slices, find_slices
from lnmt.types import ID, LABEL, TEXT, Task

if TYPE_CHECKING:
    from lnmt.runtime.predictor import Predictor

LABELLED = ("text-classification", "multi-label-classification")  # tasks whose rows fall under labels


def approved(trained: Bundle, gate: Path) -> Bundle:
    """`trained`, if reports/gate approves of exactly this bundle. Raises LnmtError or DigestMismatch."""
    source = gate / "approval.json"
    if not source.is_file():
        raise LnmtError(
            "the trained model has passed no gate: nothing ships without", where=source, fix="run: lnmt stage gate"
        )
    approval = read_json(source)
    if approval.get("passed") is not True:
        raise LnmtError(
            "the gate did not approve the trained model",
            where=source,
            value=f"passed: {approval.get('passed')}",
            allowed="passed: true",
            fix="train a better one, or mend params.yaml: gate; then lnmt run",
        )
    if approval.get("bundle") != trained.digest:
        raise DigestMismatch(
            source,
            expected=trained.digest,
            found=str(approval.get("bundle")),
            fix="the approval is another model's: run lnmt stage evaluate, then lnmt stage gate",
        )
    return trained


def read_temperature(evaluation: Path) -> float:
    """The calibration temperature. Raises LnmtError where it is absent or no positive number."""
    source = evaluation / "calibration.json"
    if not source.is_file():
        raise LnmtError("the model is not calibrated", where=source, fix="run: lnmt stage evaluate")
    found = read_json(source).get("temperature")
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found) or found <= 0:
        raise LnmtError(
            "the temperature is no positive number",
            where=source,
            value=found,
            allowed="a number above 0",
            fix="run: lnmt stage evaluate",
        )
    return float(found)


def read_split(directory: Path, task: Task, labels: list[str]) -> Validation:
    """A labelled split. Raises LnmtError where it has no rows, or a label that the task does not allow."""
    import pyarrow.parquet as pq

    if not directory.is_dir():
        raise LnmtError(f"no {directory.name} split", where=directory, fix="run: lnmt stage process")
    table = pq.read_table(directory, columns=[ID, TEXT, LABEL])
    if table.num_rows == 0:
        raise LnmtError(
            f"the {directory.name} split is empty: no engine can be held against the reference",
            where=directory,
            value="0 rows",
            fix="add rows, or give it a larger share: params.yaml: process.split",
        )
    ids = table[ID].to_pylist()
    targets = parse_labels(table[LABEL].to_pylist(), ids, task, labels, where=directory)
    return Validation(task, labels, table[TEXT].to_pylist(), ids, targets, directory)


def read_slices(split: Validation, options: EvaluateParams, predictor: Predictor) -> dict[str, NDArray[np.bool_]]:
    """The rows [N] of every slice of `evaluate.slices` in a split, by `domain=film`. Raises UnknownName as there."""
    import pyarrow.parquet as pq

    table = pq.read_table(split.where)
    columns = [name for name in table.column_names if name not in (ID, TEXT, LABEL)]
    rows = _label_rows(split)
    check_slices(options.slices, columns, labelled=bool(rows))
    tokens = np.array([len(row) for row in predictor.encode(split.texts)], dtype=np.int64)
    values = {name: table[name].to_pylist() for name in columns}
    found = find_slices(options.slices, values, tokens, rows, options.length_edges)
    return {f"{part.name}={part.value}": part.mask for part in found}


def read_production(directory: Path) -> dict[str, Any]:
    """What `lnmt monitor --keep-latency` kept; empty where nothing was. Raises LnmtError where it is damaged."""
    source = directory / "latency.json"
    if not source.is_file():
        return {}
    try:
        found = read_json(source)
        tokens, bundles = found["tokens"], found["bundles"]
        whole = all(isinstance(count, int) and count >= 0 for count in tokens) and isinstance(bundles, dict)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise LnmtError(
            "what service measured cannot be read", where=source, fix="run: lnmt monitor --keep-latency; or delete it"
        )
    return dict(found)


def _label_rows(split: Validation) -> dict[str, NDArray[np.bool_]]:
    """The rows [N] of each label, for tasks whose rows fall under labels."""
    targets = np.asarray(split.targets) if split.task in LABELLED else np.empty(0)
    if split.task == "text-classification":
        return {label: targets == place for place, label in enumerate(split.labels)}
    if split.task == "multi-label-classification":
        return {label: targets[:, place] == 1 for place, label in enumerate(split.labels)}
    return {}
