"""Stage `evaluate`: how good the trained model is, on what, against what, and whether that is enough.

Legend: N = rows, C = labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.files import new_directory
from lnmt.params import Params
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from lnmt.training.baselines import BASELINES, Baseline
from lnmt.training.calibration import fit_temperature, softmax
from lnmt.training.evaluation_report import Evaluation, write_evaluation
from lnmt.training.gate import check_gates, judge
from lnmt.training.measure import compare, measure, metric_names, rate_names
from lnmt.training.metrics import encode
from lnmt.training.slices import find_slices
from lnmt.types import ID, LABEL, TEXT

if TYPE_CHECKING:
    from lnmt.stages import StageIO

CHUNK_ROWS = 1024  # texts given to the predictor at once: it sorts them by length, and the bar moves between
OWN_COLUMNS = (ID, TEXT, LABEL)  # the others are slices


@dataclass(frozen=True)
class SplitOutput:
    """A split, and what the model says about it."""

    table: pa.Table  # id, text, label, slice columns
    labels: NDArray[np.int64]  # [N], places in the bundle's labels
    logits: NDArray[np.float32]  # [N, C]
    tokens: NDArray[np.int64]  # [N]


def evaluate(params: Params, io: StageIO) -> None:
    """data/processed + models/trained → reports/evaluation.

    The temperature is fitted on validation; everything else is said about test, and beside it about
    the holdout, which no gate judges. Raises LnmtError for an empty split, UnknownName for a
    baseline, slice, metric or label that is not there.
    """
    options = params.evaluate
    bundle = Bundle.open(io.read("models/trained"))
    labels = bundle.manifest.labels
    check_gates(params.gate, metric_names(labels), rate_names(labels), options.baselines)
    baselines = {name: _baseline(name, labels, options.seed) for name in options.baselines}
    data = io.read("data/processed")

    predictor = Predictor.open(bundle)
    try:
        validation = run_split(predictor, data / "validation", io.progress)
        test = run_split(predictor, data / "test", io.progress)
        holdout = run_split(predictor, data / "holdout", io.progress)
    finally:
        predictor.close()
    for name, split in (("validation", validation), ("test", test)):
        _require_rows(split, data / name)

    temperature = fit_temperature(validation.logits, validation.labels)
    scores = softmax(test.logits, temperature)
    model = measure(test.labels, scores, labels, options)
    guesses = _run_baselines(baselines, data / "train", test.table, io.progress)
    comparisons = {
        name: compare(
            name, test.labels, scores.argmax(axis=1), encode(guessed, labels, where=f"baseline {name}"), labels, options
        )
        for name, guessed in guesses.items()
    }

    columns = {name: test.table[name].to_pylist() for name in test.table.column_names if name not in OWN_COLUMNS}
    parts = find_slices(options.slices, columns, test.tokens, test.labels, labels, options.length_edges)
    evaluation = Evaluation(
        bundle=bundle,
        options=options,
        validation_rows=len(validation.labels),
        temperature=temperature,
        table=test.table,
        actual=test.labels,
        scores=scores,
        uncalibrated=softmax(test.logits),
        test=model,
        holdout=measure(holdout.labels, softmax(holdout.logits, temperature), labels, options)
        if len(holdout.labels)
        else None,
        comparisons=comparisons,
        slices=[(part, measure(test.labels[part.mask], scores[part.mask], labels, options)) for part in parts],
        gates=judge(params.gate, model, comparisons),
    )
    with new_directory(io.write("reports/evaluation")) as directory:
        write_evaluation(directory, evaluation)
    _tell(evaluation, io.progress)


def run_split(predictor: Predictor, directory: Path, progress: Progress) -> SplitOutput:
    """The model over every row of a split, in order. Raises LnmtError for a missing split, UnknownName for a label."""
    if not directory.is_dir():
        raise LnmtError("no such split", where=directory, fix="run the stage before: lnmt stage process")
    table = pq.read_table(directory)
    texts = table[TEXT].to_pylist()
    labels = encode(table[LABEL].to_pylist(), predictor.labels, where=directory)
    logits = np.empty((len(texts), len(predictor.labels)), dtype=np.float32)
    tokens = np.empty(len(texts), dtype=np.int64)
    with progress.bar(f"predict {directory.name}", len(texts)) as bar:
        for start in range(0, len(texts), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            output, tokens[rows] = predictor.outputs(texts[rows])
            logits[rows] = output.logits
            bar.advance(len(output.logits))
    return SplitOutput(table, labels, logits, tokens)


def _require_rows(split: SplitOutput, directory: Path) -> None:
    if len(split.labels) == 0:
        raise LnmtError(
            f"the {directory.name} split is empty: there is nothing to evaluate on",
            where=directory,
            value="0 rows",
            fix="add rows, or give it a larger share: params.yaml: process.split",
        )


def _baseline(name: str, labels: Sequence[str], seed: int) -> Baseline:
    return BASELINES.get(name, where="params.yaml: evaluate.baselines")(labels, seed)


def _run_baselines(
    baselines: Mapping[str, Baseline], train: Path, test: pa.Table, progress: Progress
) -> dict[str, list[str]]:
    """Each baseline, fitted on the training split, on the test texts."""
    learned = pq.read_table(train, columns=[TEXT, LABEL])
    texts, labels = learned[TEXT].to_pylist(), learned[LABEL].to_pylist()
    guesses = {}
    with progress.bar("baselines", len(baselines), "baselines") as bar:
        for name, baseline in baselines.items():
            baseline.fit(texts, labels)
            guesses[name] = baseline.predict(test[TEXT].to_pylist())
            bar.advance()
    return guesses


def _tell(evaluation: Evaluation, progress: Progress) -> None:
    """One line for people and the flow's log; a missed gate is told by the next stage."""
    test, interval = evaluation.test.points, evaluation.test.intervals["macro_f1"]
    missed = sum(not result.passed for result in evaluation.gates)
    progress.note(
        f"test macro-F1 {test['macro_f1']:.3f} ({interval.low:.3f}…{interval.high:.3f}), "
        f"accuracy {test['accuracy']:.3f}, ECE {test['ece']:.3f}; "
        f"{len(evaluation.gates) - missed} of {len(evaluation.gates)} gates passed",
        macro_f1=test["macro_f1"],
        accuracy=test["accuracy"],
        gates_missed=missed,
    )
