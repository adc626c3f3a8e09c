"""Gates: what `params.yaml: gate` asks of a model, and the stage that lets it pass or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from lnmt.bundles import Bundle
from lnmt.errors import DigestMismatch, GateBlocked, LnmtError, UnknownName
from lnmt.files import new_directory, read_json, write_json
from lnmt.params import Gate, Params
from lnmt.training.metrics.names import higher_is_better

if TYPE_CHECKING:
    from lnmt.stages import StageIO
    from lnmt.stats.bootstrap import Interval
    from lnmt.training.measure import Comparison, Measured

Rule = Literal["at_least", "at_most", "above"]
WORDS: dict[Rule, str] = {"at_least": "at least", "at_most": "at most", "above": "above"}


@dataclass(frozen=True)
class GateResult:
    """One gate, judged on the point estimate of the model's test metric."""

    metric: str
    rule: Rule
    baseline: str | None  # that `above` compares with
    observed: float  # the metric; for `above` by how much the model is better than the baseline
    interval: list[float]  # of `observed`
    required: float
    margin: float  # on the good side where it is not negative
    passed: bool
    words: str


def check_gates(
    gates: Sequence[Gate], metrics: Sequence[str], compared: Sequence[str], baselines: Sequence[str]
) -> None:
    """Refuse a gate that nothing could judge, before anything is measured.

    `metrics` are the model's, `compared` those that baselines have too. Raises UnknownName.
    """
    for index, gate in enumerate(gates):
        where = f"params.yaml: gate[{index}]"
        if gate.metric not in (metrics if gate.above is None else compared):
            kind = "metric" if gate.above is None else "metric of baselines"
            raise UnknownName(kind, gate.metric, metrics if gate.above is None else compared, where=f"{where}.metric")
        if gate.above is not None and gate.above not in baselines:
            raise UnknownName("baseline of evaluate.baselines", gate.above, baselines, where=f"{where}.above")


def judge(gates: Sequence[Gate], model: Measured, comparisons: Mapping[str, Comparison]) -> list[GateResult]:
    """Each gate against the model's test metrics; `check_gates` has accepted them."""
    results = []
    for gate in gates:
        if gate.above is not None and gate.by is not None:
            comparison = comparisons[gate.above]
            observed, interval = comparison.gains[gate.metric], comparison.gain_intervals[gate.metric]
            results.append(_result(gate, "above", observed, interval, gate.by, observed - gate.by))
            continue
        observed, interval = model.points[gate.metric], model.intervals[gate.metric]
        if gate.at_least is not None:
            results.append(_result(gate, "at_least", observed, interval, gate.at_least, observed - gate.at_least))
        else:
            assert gate.at_most is not None, "params.Gate holds exactly one rule"
            results.append(_result(gate, "at_most", observed, interval, gate.at_most, gate.at_most - observed))
    return results


def _result(gate: Gate, rule: Rule, observed: float, interval: Interval, required: float, margin: float) -> GateResult:
    passed = margin >= 0
    if rule == "above":
        better, worse = ("above", "below") if higher_is_better(gate.metric) else ("below", "above")
        asked = f"{gate.metric} must be at least {required:g} {better} {gate.above}"
        found = f"it is {abs(observed):.4f} {better if observed >= 0 else worse}"
    else:
        asked, found = f"{gate.metric} must be {WORDS[rule]} {required:g}", f"it is {observed:.4f}"
    span = f"{interval.low:.4f}…{interval.high:.4f}"
    outcome = f"passed by {margin:.4f}" if passed else f"missed by {-margin:.4f}"
    words = f"{asked}: {found} (interval {span}), {outcome}"
    return GateResult(gate.metric, rule, gate.above, observed, interval.as_list(), required, margin, passed, words)


def verdict(bundle: str, results: Sequence[GateResult]) -> dict[str, object]:
    """What verdict.json holds: whether all passed, for which bundle (digest), and each gate."""
    passed = all(result.passed for result in results)
    return {"passed": passed, "bundle": bundle, "gates": [asdict(result) for result in results]}


def gate(params: Params, io: StageIO) -> None:
    """Stage `gate`: reports/evaluation/verdict.json → reports/gate/approval.json.

    Raises GateBlocked (exit 2) naming each missed gate and by how much; DigestMismatch where the
    verdict is about another bundle than models/trained.
    """
    source = io.read("reports/evaluation") / "verdict.json"
    if not source.is_file():
        raise LnmtError(
            "no verdict to hold the model to", where=source, fix="run the stage before: lnmt stage evaluate"
        )
    found = read_json(source)
    bundle = Bundle.open(io.read("models/trained"))
    if found["bundle"] != bundle.digest:
        raise DigestMismatch(
            source,
            expected=bundle.digest,
            found=found["bundle"],
            fix="evaluate the bundle that is there: lnmt evaluate",
        )
    missed = [entry for entry in found["gates"] if not entry["passed"]]
    if missed:
        raise GateBlocked(
            f"{len(missed)} of {len(found['gates'])} gates missed",
            where=source,
            value="; ".join(entry["words"] for entry in missed),
            fix="train a better model, or change params.yaml: gate; reports/evaluation/index.html shows where it errs",
        )
    with new_directory(io.write("reports/gate")) as directory:
        approval = {"bundle": bundle.digest, "passed": True, "gates": len(found["gates"])}
        write_json(directory / "approval.json", approval)
    io.progress.note(f"all {len(found['gates'])} gates passed", gates=len(found["gates"]))
