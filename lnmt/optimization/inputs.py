"""What `optimize` takes from the stages before it, checked."""

from __future__ import annotations

import math
from pathlib import Path

from lnmt.bundles import Bundle
from lnmt.data.labels import parse_labels
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import read_json
from lnmt.optimization.answers import Validation
from lnmt.types import ID, LABEL, TEXT, Task


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


def read_validation(directory: Path, task: Task, labels: list[str]) -> Validation:
    """The validation split. Raises LnmtError where it has no rows, or a label that the task does not allow."""
    import pyarrow.parquet as pq

    if not directory.is_dir():
        raise LnmtError("no validation split", where=directory, fix="run: lnmt stage process")
    table = pq.read_table(directory, columns=[ID, TEXT, LABEL])
    if table.num_rows == 0:
        raise LnmtError(
            "the validation split is empty: no engine can be held against the reference",
            where=directory,
            value="0 rows",
            fix="add rows, or give it a larger share: params.yaml: process.split",
        )
    ids = table[ID].to_pylist()
    targets = parse_labels(table[LABEL].to_pylist(), ids, task, labels, where=directory)
    return Validation(task, labels, table[TEXT].to_pylist(), ids, targets, directory)
