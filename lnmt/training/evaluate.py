"""Stage `evaluate`: how good the trained model is, on what, against what, and whether that is enough.

What differs by task stands in `lnmt.training.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.files import new_directory
from lnmt.params import EvaluateParams, Params
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from lnmt.training.baselines import Baseline, open_baseline
from lnmt.training.evaluation.report import Evaluation, write_evaluation
from lnmt.training.evaluation.task import Answers, TaskEvaluation
from lnmt.training.evaluation.tasks import EVALUATIONS
from lnmt.training.gate import check_gates, judge
from lnmt.training.measure import Measured, compare, measure
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.names import SUMMARY, default_metric, title
from lnmt.training.slices import check_slices, find_slices
from lnmt.types import ID, LABEL, TEXT

if TYPE_CHECKING:
    from lnmt.stages import StageIO

OWN_COLUMNS = (ID, TEXT, LABEL)  # the others are slices
LABELLED = ("text-classification", "multi-label-classification")  # tasks whose rows fall under labels


def evaluate(params: Params, io: StageIO) -> None:
    """data/processed + models/trained → reports/evaluation.

    The temperature, where the task has scores, is fitted on validation; everything else is said about test, and
    beside it about the holdout, which no gate judges. Raises LnmtError for an empty split or a baseline of another
    task, UnknownName for a baseline, slice, metric or label that is not there.
    """
    options = params.evaluate
    bundle = Bundle.open(io.read("models/trained"))
    task, labels = bundle.manifest.task, bundle.manifest.labels
    evaluation = EVALUATIONS[task](bundle)
    check_gates(params.gate, evaluation.metrics.names, evaluation.metrics.compared.names, options.baselines)
    baselines = {name: open_baseline(name, task, labels, options.seed) for name in options.baselines}
    data = io.read("data/processed")
    splits = {name: _read(data / name) for name in ("validation", "test", "holdout")}
    check_slices(options.slices, _columns(splits["test"]), labelled=task in LABELLED)
    for name in ("validation", "test") if evaluation.calibrated else ("test",):
        _require_rows(splits[name], data / name)
    if not evaluation.calibrated:
        del splits["validation"]

    found = _answer(evaluation, bundle, splits, data, io.progress)
    test = found["test"]
    temperature = evaluation.fit_temperature(found["validation"]) if evaluation.calibrated else 1.0
    rows = evaluation.rows(test, temperature)
    model = measure(evaluation.metrics, rows, options)
    guesses = _run_baselines(evaluation, baselines, data / "train", test, io.progress)
    comparisons = {
        name: compare(name, evaluation.metrics.compared, rows, guessed, options) for name, guessed in guesses.items()
    }
    columns = {name: test.table[name].to_pylist() for name in _columns(test.table)}
    parts = find_slices(options.slices, columns, test.tokens, evaluation.label_rows(test), options.length_edges)
    report = Evaluation(
        bundle=bundle,
        options=options,
        evaluation=evaluation,
        answers=test,
        temperature=temperature,
        validation_rows=splits["validation"].num_rows if evaluation.calibrated else None,
        rows=rows,
        test=model,
        holdout=_measure_holdout(evaluation, found["holdout"], temperature, options),
        guesses=guesses,
        comparisons=comparisons,
        slices=[(part, measure(evaluation.metrics, rows[part.mask], options)) for part in parts],
        gates=judge(params.gate, model, comparisons),
    )
    with new_directory(io.write("reports/evaluation")) as directory:
        write_evaluation(directory, report)
    _tell(report, io.progress)


def _answer(
    evaluation: TaskEvaluation[Any, Any], bundle: Bundle, splits: Mapping[str, pa.Table], data: Path, progress: Progress
) -> dict[str, Answers[Any, Any]]:
    """The model over each split."""
    found = {}
    predictor = Predictor.open(bundle)
    try:
        for name, table in splits.items():
            with progress.bar(f"predict {name}", table.num_rows) as bar:
                found[name] = evaluation.answer(predictor, table, data / name, bar.advance)
    finally:
        predictor.close()
    return found


def _run_baselines(
    evaluation: TaskEvaluation[Any, Any],
    baselines: Mapping[str, Baseline],
    train: Path,
    test: Answers[Any, Any],
    progress: Progress,
) -> dict[str, Values]:
    """The rows of each baseline, fitted on the training split, on test."""
    learned = pq.read_table(train, columns=[ID, TEXT, LABEL]) if baselines else None
    guesses = {}
    with progress.bar("baselines", len(baselines), "baselines") as bar:
        for name, baseline in baselines.items():
            guesses[name] = evaluation.baseline_rows(baseline, learned, test, f"baseline {name}")
            bar.advance()
    return guesses


def _measure_holdout(
    evaluation: TaskEvaluation[Any, Any], answers: Answers[Any, Any], temperature: float, options: EvaluateParams
) -> tuple[Values, Measured] | None:
    """The holdout's rows and what was measured of them; None where there are none."""
    rows = evaluation.rows(answers, temperature)
    return (rows, measure(evaluation.metrics, rows, options)) if len(rows) else None


def _read(directory: Path) -> pa.Table:
    if not directory.is_dir():
        raise LnmtError("no such split", where=directory, fix="run the stage before: lnmt stage process")
    return pq.read_table(directory)


def _columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in OWN_COLUMNS]


def _require_rows(table: pa.Table, directory: Path) -> None:
    if table.num_rows == 0:
        raise LnmtError(
            f"the {directory.name} split is empty: there is nothing to evaluate on",
            where=directory,
            value="0 rows",
            fix="add rows, or give it a larger share: params.yaml: process.split",
        )


def _tell(found: Evaluation, progress: Progress) -> None:
    """One line for people and the flow's log; a missed gate is told by the next stage."""
    task = found.bundle.manifest.task
    points, first = found.test.points, default_metric(task)
    interval = found.test.intervals[first]
    others = ", ".join(f"{title(name)} {points[name]:.3f}" for name in SUMMARY[task] if name != first)
    missed = sum(not result.passed for result in found.gates)
    progress.note(
        f"test {title(first)} {points[first]:.3f} ({interval.low:.3f}…{interval.high:.3f}), {others}; "
        f"{len(found.gates) - missed} of {len(found.gates)} gates passed",
        **{name: points[name] for name in SUMMARY[task]},
        gates_missed=missed,
    )
