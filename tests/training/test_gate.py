from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lnmt.bundles import Bundle, Lineage
from lnmt.errors import DigestMismatch, GateBlocked, LnmtError, UnknownName
from lnmt.files import read_json, write_json
from lnmt.params import Gate, load_params
from lnmt.progress import Progress
from lnmt.stages import StageIO, find_stage
from lnmt.stats.bootstrap import Interval
from lnmt.training.gate import check_gates, gate, judge, verdict
from lnmt.training.measure import Comparison, Measured
from lnmt.training.metrics.classification import LabelMetrics, ScoreMetrics
from tests.plain_bundle import plain_bundle

LINEAGE = Lineage(commit=None, dirty=False, params="sha256:1", lock="sha256:2")
NO_PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").only(())
LABELS = ["negative", "positive"]


def measured(**points: float) -> Measured:
    intervals = {name: Interval(value - 0.01, value + 0.01) for name, value in points.items()}
    return Measured(100, points, intervals, {})


MODEL = measured(macro_f1=0.74, ece=0.05)
TFIDF = Comparison("tfidf", measured(macro_f1=0.7), {"macro_f1": 0.04}, {"macro_f1": Interval(0.01, 0.07)})


def test_the_three_rules() -> None:
    gates = [
        Gate(metric="macro_f1", at_least=0.7),
        Gate(metric="ece", at_most=0.03),
        Gate(metric="macro_f1", above="tfidf", by=0.02),
    ]
    least, most, above = judge(gates, MODEL, {"tfidf": TFIDF})
    assert (least.rule, least.passed, least.baseline) == ("at_least", True, None)
    assert least.margin == pytest.approx(0.04)
    assert least.interval == pytest.approx([0.73, 0.75])
    assert least.words == "macro_f1 must be at least 0.7: it is 0.7400 (interval 0.7300…0.7500), passed by 0.0400"
    assert (most.passed, most.required) == (False, 0.03)
    assert most.words == "ece must be at most 0.03: it is 0.0500 (interval 0.0400…0.0600), missed by 0.0200"
    assert (above.observed, above.required, above.baseline) == (0.04, 0.02, "tfidf")
    assert above.words.startswith("macro_f1 must be at least 0.02 above tfidf: it is 0.0400 above (interval 0.0100…")


def test_a_model_below_its_baseline_is_told_so() -> None:
    worse = Comparison("tfidf", measured(macro_f1=0.8), {"macro_f1": -0.06}, {"macro_f1": Interval(-0.1, -0.02)})
    (found,) = judge([Gate(metric="macro_f1", above="tfidf", by=0.02)], MODEL, {"tfidf": worse})
    assert not found.passed
    assert "it is 0.0600 below" in found.words
    assert found.words.endswith("missed by 0.0800")


def test_below_a_baseline_is_better_where_lower_is() -> None:
    mean = Comparison("mean", measured(rmse=1.0), {"rmse": 0.3}, {"rmse": Interval(0.1, 0.5)})
    (found,) = judge([Gate(metric="rmse", above="mean", by=0.2)], measured(rmse=0.7), {"mean": mean})
    assert (found.passed, found.observed) == (True, 0.3)
    assert found.words == (
        "rmse must be at least 0.2 below mean: it is 0.3000 below (interval 0.1000…0.5000), passed by 0.1000"
    )
    worse = Comparison("mean", measured(rmse=1.0), {"rmse": -0.3}, {"rmse": Interval(-0.5, -0.1)})
    (found,) = judge([Gate(metric="rmse", above="mean", by=0.0)], measured(rmse=1.3), {"mean": worse})
    assert not found.passed
    assert "it is 0.3000 above" in found.words


def test_exactly_at_the_bar_passes() -> None:
    assert judge([Gate(metric="macro_f1", at_least=0.74)], MODEL, {})[0].passed


@pytest.mark.parametrize(
    ("asked", "message", "fix"),
    [
        (Gate(metric="macro_f2", at_least=0.1), "unknown metric 'macro_f2'", "did you mean 'macro_f1'?"),
        (Gate(metric="f1.positiv", at_least=0.1), "unknown metric 'f1.positiv'", "did you mean 'f1.positive'?"),
        (Gate(metric="accuracy", above="tdidf", by=0.1), "unknown baseline of evaluate.baselines", "mean 'tfidf'?"),
        (Gate(metric="ece", above="tfidf", by=0.1), "unknown metric of baselines 'ece'", "choose one"),
    ],
)
def test_a_gate_that_nothing_can_judge_is_refused(asked: Gate, message: str, fix: str) -> None:
    gates = [Gate(metric="f1.negative", at_least=0.1), asked]
    with pytest.raises(UnknownName, match=message) as caught:
        check_gates(gates, ScoreMetrics(LABELS).names, LabelMetrics(LABELS).names, ["majority", "tfidf"])
    assert fix in str(caught.value.fix)
    assert "params.yaml: gate[1]" in str(caught.value.where)


def project(root: Path, gates: list[Gate], bundle: str | None = None) -> StageIO:
    """A project with a trained bundle, and a verdict on it."""
    trained = plain_bundle(root / "models/trained")
    digest = bundle or trained.digest
    write_json(root / "reports/evaluation/verdict.json", verdict(digest, judge(gates, MODEL, {"tfidf": TFIDF})))
    progress = Progress(root / "progress.jsonl", show=False)
    return StageIO(root, find_stage("gate"), root / "work", root / "cache", True, LINEAGE, progress, root / ".lnmt")


def approval(io: StageIO) -> Any:
    return read_json(io.root / "reports/gate/approval.json")


def test_a_model_that_passes_is_approved_by_its_digest(tmp_path: Path) -> None:
    io = project(tmp_path, [Gate(metric="macro_f1", at_least=0.7), Gate(metric="ece", at_most=0.1)])
    gate(NO_PARAMS, io)
    assert approval(io) == {"bundle": Bundle.open(tmp_path / "models/trained").digest, "passed": True, "gates": 2}


def test_no_gates_pass(tmp_path: Path) -> None:
    io = project(tmp_path, [])
    gate(NO_PARAMS, io)
    assert approval(io)["gates"] == 0


def test_each_missed_gate_is_named_with_its_margin(tmp_path: Path) -> None:
    gates = [Gate(metric="macro_f1", at_least=0.8), Gate(metric="ece", at_most=0.1), Gate(metric="ece", at_most=0.01)]
    io = project(tmp_path, gates)
    with pytest.raises(GateBlocked, match="2 of 3 gates missed") as caught:
        gate(NO_PARAMS, io)
    assert caught.value.exit_code == 2
    assert "macro_f1 must be at least 0.8: it is 0.7400" in str(caught.value)
    assert "missed by 0.0600" in str(caught.value)
    assert "missed by 0.0400" in str(caught.value)
    assert not (tmp_path / "reports/gate").exists()


def test_a_verdict_on_another_bundle_is_refused(tmp_path: Path) -> None:
    io = project(tmp_path, [], bundle="sha256:" + "0" * 64)
    with pytest.raises(DigestMismatch, match="digest does not match") as caught:
        gate(NO_PARAMS, io)
    assert caught.value.fix == "evaluate the bundle that is there: lnmt evaluate"


def test_a_bundle_that_was_altered_is_refused(tmp_path: Path) -> None:
    io = project(tmp_path, [])
    (tmp_path / "models/trained/model.bin").write_bytes(b"other weights")
    with pytest.raises(DigestMismatch, match=r"model\.bin"):
        gate(NO_PARAMS, io)


def test_no_verdict_says_which_stage_to_run(tmp_path: Path) -> None:
    io = project(tmp_path, [])
    (tmp_path / "reports/evaluation/verdict.json").unlink()
    with pytest.raises(LnmtError, match="no verdict") as caught:
        gate(NO_PARAMS, io)
    assert caught.value.fix == "run the stage before: lnmt stage evaluate"
