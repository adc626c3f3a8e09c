"""The files of reports/evaluation. None holds a time or a path: the same model and data give the same bytes.

Legend: N = rows, C = labels.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.files import write_bytes, write_json
from lnmt.params import EvaluateParams
from lnmt.training.evaluation_page import render_page
from lnmt.training.gate import GateResult, verdict
from lnmt.training.measure import Comparison, Measured
from lnmt.training.metrics import ReliabilityBin, expected_calibration_error, reliability_bins
from lnmt.training.slices import LABEL, Slice


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found."""

    bundle: Bundle
    options: EvaluateParams
    validation_rows: int
    temperature: float
    table: pa.Table  # the test split
    actual: NDArray[np.int64]  # [N]
    scores: NDArray[np.float64]  # [N, C], calibrated
    uncalibrated: NDArray[np.float64]  # [N, C]
    test: Measured
    holdout: Measured | None
    comparisons: dict[str, Comparison]
    slices: list[tuple[Slice, Measured]]
    gates: list[GateResult]


def write_evaluation(directory: Path, found: Evaluation) -> None:
    """metrics, calibration, verdict as JSON; predictions as Parquet; reliability, confusion as CSV; the page."""
    labels = found.bundle.manifest.labels
    bins = {
        "before": reliability_bins(found.uncalibrated, found.actual),
        "after": reliability_bins(found.scores, found.actual),
    }
    metrics = metrics_json(found)
    judgement = verdict(found.bundle.digest, found.gates)
    predicted = [labels[place] for place in found.scores.argmax(axis=1)]
    actual = [labels[place] for place in found.actual]

    write_json(directory / "metrics.json", metrics)
    write_json(directory / "calibration.json", {"temperature": found.temperature})
    write_json(directory / "verdict.json", judgement)
    _write_predictions(directory / "predictions.parquet", found, actual, predicted)
    _write_csv(directory / "confusion.csv", ["actual", "predicted"], zip(actual, predicted, strict=True))
    for name, entries in (("reliability.csv", bins["after"]), ("reliability_uncalibrated.csv", bins["before"])):
        filled = [asdict(entry).values() for entry in entries if entry.rows]
        _write_csv(directory / name, list(ReliabilityBin.__annotations__), filled)
    page = render_page(
        labels=labels,
        bundle=found.bundle.digest,
        manifest=found.bundle.manifest,
        metrics=metrics,
        verdict=judgement,
        bins={name: [asdict(entry) for entry in entries] for name, entries in bins.items()},
        options=found.options,
    )
    write_bytes(directory / "index.html", page.encode())


def metrics_json(found: Evaluation) -> dict[str, Any]:
    """metrics.json. What `dvc metrics show` should print is a number in nested objects; the rest stands in lists."""
    labels = found.bundle.manifest.labels
    test = measured_json(found.test, labels)
    uncalibrated = expected_calibration_error(found.uncalibrated, found.actual)
    metrics: dict[str, Any] = {"temperature": found.temperature, "validation": {"rows": found.validation_rows}}
    metrics["test"] = {**test, "ece_uncalibrated": uncalibrated}
    if found.holdout is not None:
        metrics["holdout"] = measured_json(found.holdout, labels)
    metrics["baselines"] = {name: _comparison_json(comparison) for name, comparison in found.comparisons.items()}
    metrics["slices"] = [_slice_json(part, measured, labels, found.options) for part, measured in found.slices]
    return metrics


def measured_json(measured: Measured, labels: Sequence[str]) -> dict[str, Any]:
    """Rows, metrics, F1 by label, then lists: per class, intervals as [low, high], the confusion matrix."""
    points, support = measured.points, measured.confusion.sum(axis=1)
    return {
        "rows": measured.rows,
        "accuracy": points["accuracy"],
        "macro_f1": points["macro_f1"],
        "ece": points["ece"],
        "f1": {label: points[f"f1.{label}"] for label in labels},
        "per_class": [
            {
                "label": label,
                "support": int(support[index]),
                **{kind: points[f"{kind}.{label}"] for kind in ("precision", "recall", "f1")},
            }
            for index, label in enumerate(labels)
        ],
        "intervals": {name: interval.as_list() for name, interval in measured.intervals.items()},
        "confusion": measured.confusion.tolist(),
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    points, intervals = comparison.baseline.points, comparison.baseline.intervals
    return {
        "accuracy": points["accuracy"],
        "macro_f1": points["macro_f1"],
        "gain_accuracy": comparison.gains["accuracy"],
        "gain_macro_f1": comparison.gains["macro_f1"],
        "intervals": {
            "accuracy": intervals["accuracy"].as_list(),
            "macro_f1": intervals["macro_f1"].as_list(),
            "gain_accuracy": comparison.gain_intervals["accuracy"].as_list(),
            "gain_macro_f1": comparison.gain_intervals["macro_f1"].as_list(),
        },
        "confusion": comparison.baseline.confusion.tolist(),
    }


def _slice_json(part: Slice, measured: Measured, labels: Sequence[str], options: EvaluateParams) -> dict[str, Any]:
    judged = measured.rows >= options.min_slice_rows
    head = {"slice": part.name, "value": part.value, "judged": judged}
    body = measured_json(measured, labels)
    if part.name == LABEL:
        # With one actual label, accuracy is its recall and the macro-F1 means nothing.
        body["macro_f1"] = None
        del body["intervals"]["macro_f1"]
    return {**head, **body}


def _write_predictions(path: Path, found: Evaluation, actual: list[str], predicted: list[str]) -> None:
    """id, label, predicted, scores in the order of the labels, which stand in the schema's metadata."""
    scores = found.scores.astype(np.float32)
    table = pa.table(
        {
            "id": found.table["id"].combine_chunks(),
            "label": pa.array(actual, pa.string()),
            "predicted": pa.array(predicted, pa.string()),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1]),
        }
    )
    pq.write_table(table.replace_schema_metadata({"labels": json.dumps(found.bundle.manifest.labels)}), path)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
