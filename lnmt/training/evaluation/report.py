"""The files of reports/evaluation. None holds a time or a path: the same model and data give the same bytes.

Legend: N = rows, D = numbers of a row of the metrics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lnmt.bundles import Bundle
from lnmt.files import write_bytes, write_json
from lnmt.params import EvaluateParams
from lnmt.training.evaluation.page import render_page
from lnmt.training.evaluation.task import Answers, Lines, TaskEvaluation
from lnmt.training.gate import GateResult, verdict
from lnmt.training.measure import Comparison, Measured
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.names import BY_LABEL, SUMMARY
from lnmt.training.metrics.reliability import ReliabilityBin, decision_error
from lnmt.training.slices import LABEL, Slice

# What dvc.yaml plots is there for every task, since DVC warns of absent files; where it means nothing, as a header.
PLOTTED: Mapping[str, Lines] = {
    "confusion.csv": (("actual", "predicted"), ()),
    "reliability.csv": (tuple(ReliabilityBin.__annotations__), ()),
}


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found."""

    bundle: Bundle
    options: EvaluateParams
    evaluation: TaskEvaluation[Any, Any]
    answers: Answers[Any, Any]  # on test
    temperature: float
    validation_rows: int | None  # that it was fitted on; None for a task without scores
    rows: Values  # [N, D], of test
    test: Measured
    holdout: tuple[Values, Measured] | None
    guesses: Mapping[str, Values]  # [N, D] of each baseline
    comparisons: Mapping[str, Comparison]
    slices: list[tuple[Slice, Measured]]
    gates: list[GateResult]


def write_evaluation(directory: Path, found: Evaluation) -> None:
    """metrics, calibration, verdict as JSON; predictions as Parquet; what can be plotted as CSV; the page."""
    task, answers = found.evaluation, found.answers
    metrics = metrics_json(found)
    judgement = verdict(found.bundle.digest, found.gates)
    write_json(directory / "metrics.json", metrics)
    write_json(directory / "calibration.json", {"temperature": found.temperature})
    write_json(directory / "verdict.json", judgement)
    _write_predictions(directory / "predictions.parquet", found)
    for name, lines in {**PLOTTED, **task.tables(answers, found.temperature)}.items():
        _write_csv(directory / name, lines)
    page = render_page(
        bundle=found.bundle,
        metrics=metrics,
        verdict=judgement,
        slice_metric=task.slice_metric,
        bins={"before": task.bins(answers, 1.0), "after": task.bins(answers, found.temperature)},
        scatter=task.scatter(answers),
        options=found.options,
    )
    write_bytes(directory / "index.html", page.encode())


def metrics_json(found: Evaluation) -> dict[str, Any]:
    """metrics.json. What `dvc metrics show` should print is a number in nested objects; the rest stands in lists."""
    metrics: dict[str, Any] = {}
    if found.validation_rows is not None:
        metrics = {"temperature": found.temperature, "validation": {"rows": found.validation_rows}}
    metrics["test"] = measured_json(found, found.test, found.rows)
    if found.validation_rows is not None:
        metrics["test"]["ece_uncalibrated"] = decision_error(found.evaluation.bins(found.answers, 1.0))
    if found.holdout is not None:
        rows, holdout = found.holdout
        metrics["holdout"] = measured_json(found, holdout, rows)
    metrics["baselines"] = {name: _comparison_json(found, comparison) for name, comparison in found.comparisons.items()}
    metrics["slices"] = [_slice_json(found, part, measured) for part, measured in found.slices]
    return metrics


def measured_json(found: Evaluation, measured: Measured, rows: Values) -> dict[str, Any]:
    """Rows, metrics, F1 by label, then lists: per class, intervals as [low, high], what else the task tells."""
    points = measured.points
    content: dict[str, Any] = {"rows": measured.rows, **{name: points[name] for name in _summary(found)}}
    if measured.support:
        content["f1"] = {label: points[f"f1.{label}"] for label in measured.support}
        content["per_class"] = [
            {"label": label, "support": support, **{kind: points[f"{kind}.{label}"] for kind in BY_LABEL}}
            for label, support in measured.support.items()
        ]
    content["intervals"] = {name: interval.as_list() for name, interval in measured.intervals.items()}
    return {**content, **found.evaluation.detail(rows)}


def _comparison_json(found: Evaluation, comparison: Comparison) -> dict[str, Any]:
    names = [name for name in _summary(found) if name in comparison.gains]
    baseline = comparison.baseline
    return {
        **{name: baseline.points[name] for name in names},
        **{f"gain_{name}": comparison.gains[name] for name in names},
        "intervals": {
            **{name: baseline.intervals[name].as_list() for name in names},
            **{f"gain_{name}": comparison.gain_intervals[name].as_list() for name in names},
        },
        **found.evaluation.detail(found.guesses[comparison.name]),
    }


def _slice_json(found: Evaluation, part: Slice, measured: Measured) -> dict[str, Any]:
    head = {"slice": part.name, "value": part.value, "judged": measured.rows >= found.options.min_slice_rows}
    body = measured_json(found, measured, found.rows[part.mask])
    for name in found.evaluation.not_by_label if part.name == LABEL else ():
        body[name] = None
        del body["intervals"][name]
    return {**head, **body}


def _summary(found: Evaluation) -> tuple[str, ...]:
    return SUMMARY[found.evaluation.task]


def _write_predictions(path: Path, found: Evaluation) -> None:
    """The ids of test, and what the task says of each row."""
    own = found.evaluation.predictions(found.answers, found.temperature)
    table = own.add_column(0, "id", found.answers.table["id"].combine_chunks())
    pq.write_table(table.replace_schema_metadata(own.schema.metadata), path)


def _write_csv(path: Path, lines: Lines) -> None:
    header, rows = lines
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
