"""The stage on a tiny real bundle: nothing is mocked, the model is only small and untrained."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from lnmt.bundles import Bundle, Lineage
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import file_digests, read_json, write_json
from lnmt.params import EvaluateParams, Gate, load_params
from lnmt.progress import Progress
from lnmt.stages import StageIO, find_stage
from lnmt.training.calibration import softmax
from lnmt.training.evaluate import evaluate
from tests.tiny_bundle import LABELS, WORDS, tiny_bundle

Rows = list[tuple[str, str, str, str]]  # id, text, label, domain
OPTIONS = EvaluateParams(
    baselines=["majority", "tfidf", "vader"],
    slices=["domain", "length", "label"],
    length_edges=[6, 9],
    min_slice_rows=20,
    bootstrap_samples=200,
    confidence=0.9,
    seed=7,
)
GATES = [
    Gate(metric="macro_f1", at_least=0.0),
    Gate(metric="accuracy", above="majority", by=-1.0),
    Gate(metric="ece", at_most=0.0),
]


def make_rows(split: str, count: int, domains: Sequence[str]) -> Rows:
    rng = np.random.default_rng(count)
    return [
        (
            f"{split}-{index}",
            " ".join(rng.choice(WORDS, rng.integers(2, 12))),
            LABELS[int(rng.integers(0, 3))],
            domains[index % len(domains)],
        )
        for index in range(count)
    ]


def write_split(directory: Path, rows: Rows) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "label", "domain")])
    directory.mkdir(parents=True)
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)
    pq.write_table(table.slice(0, len(rows) // 2), directory / "part-00000.parquet")
    pq.write_table(table.slice(len(rows) // 2), directory / "part-00001.parquet")


def make_project(root: Path, **splits: Rows) -> None:
    rows = {
        "train": make_rows("train", 80, ["film", "book"]),
        "validation": make_rows("validation", 60, ["film", "book"]),
        "test": make_rows("test", 90, ["film", "film", "film", "film", "book"]),
        "holdout": make_rows("holdout", 30, ["tweet"]),
    } | splits
    for name, split in rows.items():
        write_split(root / "data/processed" / name, split)
    counts = {name: len(split) for name, split in rows.items()}
    manifest = {"labels": list(LABELS), "slices": ["domain"], "processors": [], "rows": counts}
    write_json(root / "data/processed/manifest.json", manifest)


def run(root: Path, options: EvaluateParams = OPTIONS, gates: Sequence[Gate] = GATES) -> None:
    whole = load_params(Path(__file__).parents[2] / "params.yaml")
    params = whole.model_copy(update={"evaluate": options, "gate": list(gates)}).only(("plugins", "evaluate", "gate"))
    lineage = Lineage(commit=None, dirty=False, params="sha256:1", lock="sha256:2")
    progress = Progress(root / "progress.jsonl", show=False)
    evaluate(
        params,
        StageIO(root, find_stage("evaluate"), root / "work", root / "cache", True, lineage, progress, root / ".lnmt"),
    )


@dataclass(frozen=True)
class Case:
    root: Path
    bundle: Bundle

    @property
    def out(self) -> Path:
        return self.root / "reports/evaluation"

    def json(self, name: str) -> Any:
        return read_json(self.out / name)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("evaluate")
    make_project(root)
    bundle = tiny_bundle(root / "models/trained")
    run(root)
    return Case(root, bundle)


@pytest.fixture
def fresh(case: Case, tmp_path: Path) -> Path:
    """A project with the bundle, and no data yet."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/trained").symlink_to(case.bundle.path)
    return tmp_path


def test_the_files(case: Case) -> None:
    assert sorted(file_digests(case.out)) == [
        "calibration.json",
        "confusion.csv",
        "index.html",
        "metrics.json",
        "predictions.parquet",
        "reliability.csv",
        "reliability_uncalibrated.csv",
        "verdict.json",
    ]


def test_metrics_are_those_of_the_written_predictions(case: Case) -> None:
    metrics, rows = case.json("metrics.json")["test"], pq.read_table(case.out / "predictions.parquet").to_pydict()
    scores = precision_recall_fscore_support(rows["label"], rows["predicted"], labels=LABELS, zero_division=0)
    assert metrics["rows"] == 90
    assert metrics["accuracy"] == accuracy_score(rows["label"], rows["predicted"])
    assert metrics["macro_f1"] == pytest.approx(scores[2].mean())
    assert metrics["confusion"] == confusion_matrix(rows["label"], rows["predicted"], labels=LABELS).tolist()
    assert [entry["label"] for entry in metrics["per_class"]] == list(LABELS)
    assert metrics["f1"]["neutral"] == pytest.approx(scores[2][1])
    assert [entry["support"] for entry in metrics["per_class"]] == scores[3].tolist()
    low, high = metrics["intervals"]["macro_f1"]
    assert low <= metrics["macro_f1"] <= high


def test_predictions_are_the_models_with_calibrated_scores(case: Case) -> None:
    from lnmt.runtime.predictor import Predictor

    table = pq.read_table(case.out / "predictions.parquet")
    assert json.loads(table.schema.metadata[b"labels"]) == list(LABELS)
    test = pq.read_table(case.root / "data/processed/test")
    assert table["id"].to_pylist() == test["id"].to_pylist()
    predictor = Predictor.open(case.bundle)
    output, _ = predictor.outputs(test["text"].to_pylist())
    scores = softmax(output.logits, case.json("calibration.json")["temperature"])
    assert np.array(table["scores"].to_pylist()) == pytest.approx(scores, abs=1e-4)
    assert table["predicted"].to_pylist() == [LABELS[place] for place in scores.argmax(axis=1)]


def test_slices_cover_the_test_split_and_small_ones_are_flagged(case: Case) -> None:
    slices = case.json("metrics.json")["slices"]
    for name in OPTIONS.slices:
        assert sum(part["rows"] for part in slices if part["slice"] == name) == 90
    domains = {part["value"]: part for part in slices if part["slice"] == "domain"}
    assert (domains["film"]["rows"], domains["film"]["judged"]) == (72, True)
    assert (domains["book"]["rows"], domains["book"]["judged"]) == (18, False)
    low, high = domains["book"]["intervals"]["accuracy"]
    assert low <= domains["book"]["accuracy"] <= high
    of_label = [part for part in slices if part["slice"] == "label"]
    recalls = {entry["label"]: entry["recall"] for entry in case.json("metrics.json")["test"]["per_class"]}
    assert {part["value"]: part["accuracy"] for part in of_label} == recalls
    assert {part["macro_f1"] for part in of_label} == {None}


def test_the_holdout_is_reported_apart(case: Case) -> None:
    assert case.json("metrics.json")["holdout"]["rows"] == 30


def test_baselines_stand_beside_the_model(case: Case) -> None:
    metrics = case.json("metrics.json")
    assert list(metrics["baselines"]) == ["majority", "tfidf", "vader"]
    for found in metrics["baselines"].values():
        assert found["gain_macro_f1"] == pytest.approx(metrics["test"]["macro_f1"] - found["macro_f1"])
        low, high = found["intervals"]["gain_macro_f1"]
        assert low <= found["gain_macro_f1"] <= high


def test_the_verdict_names_the_bundle_and_each_gate(case: Case) -> None:
    verdict = case.json("verdict.json")
    assert verdict["bundle"] == case.bundle.digest
    assert verdict["passed"] is False
    assert [entry["passed"] for entry in verdict["gates"]] == [True, True, False]
    assert verdict["gates"][2]["words"].startswith("ece must be at most 0: it is ")


def test_csv_files_fit_dvc_plots(case: Case) -> None:
    with (case.out / "confusion.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 90
    assert rows[0].keys() == {"actual", "predicted"}
    for name in ("reliability.csv", "reliability_uncalibrated.csv"):
        with (case.out / name).open(newline="") as file:
            bins = list(csv.DictReader(file))
        assert sum(int(entry["rows"]) for entry in bins) == 90
        assert all(float(entry["low"]) < float(entry["confidence"]) <= float(entry["high"]) for entry in bins)


def test_dvc_can_show_every_number_outside_lists(case: Case) -> None:
    def leaves(value: Any) -> list[Any]:
        return [leaf for part in value.values() for leaf in leaves(part)] if isinstance(value, dict) else [value]

    kinds = {type(leaf) for leaf in leaves(case.json("metrics.json"))}
    assert kinds <= {int, float, list}


def test_the_page_needs_nothing_from_outside(case: Case) -> None:
    page = (case.out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(|<script", page)
    assert f"{case.json('metrics.json')['test']['macro_f1']:.3f}" in page
    assert "gates missed" in page
    assert case.bundle.digest in page


def test_the_same_again_is_the_same_bytes(case: Case) -> None:
    before = file_digests(case.out)
    run(case.root)
    assert file_digests(case.out) == before


def test_no_holdout_rows_are_no_holdout_section(fresh: Path) -> None:
    make_project(fresh, holdout=[])
    run(fresh, OPTIONS.model_copy(update={"baselines": []}), [])
    metrics = read_json(fresh / "reports/evaluation/metrics.json")
    assert "holdout" not in metrics
    assert metrics["baselines"] == {}
    assert read_json(fresh / "reports/evaluation/verdict.json")["passed"] is True


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_empty_split_is_refused(fresh: Path, split: str) -> None:
    make_project(fresh, **{split: []})
    with pytest.raises(LnmtError, match=f"the {split} split is empty") as caught:
        run(fresh)
    assert "process.split" in str(caught.value.fix)
    assert not (fresh / "reports/evaluation").exists()


def test_a_label_that_the_model_does_not_know_is_refused(fresh: Path) -> None:
    make_project(fresh, test=[("1", "good film", "positve", "film")])
    with pytest.raises(UnknownName, match="unknown label 'positve'") as caught:
        run(fresh)
    assert caught.value.fix == "did you mean 'positive'?"


def test_an_unknown_baseline_is_refused_before_anything_runs(fresh: Path) -> None:
    with pytest.raises(UnknownName, match="unknown baseline 'vadr'"):
        run(fresh, OPTIONS.model_copy(update={"baselines": ["vadr"]}), [])


def test_a_gate_on_an_unknown_metric_is_refused_before_anything_runs(fresh: Path) -> None:
    with pytest.raises(UnknownName, match="unknown metric 'acuracy'"):
        run(fresh, gates=[Gate(metric="acuracy", at_least=0.5)])


def test_an_unknown_slice_leaves_the_last_report_alone(case: Case) -> None:
    before = file_digests(case.out)
    with pytest.raises(UnknownName, match="unknown slice 'domian'"):
        run(case.root, OPTIONS.model_copy(update={"slices": ["domian"], "baselines": []}), [])
    assert file_digests(case.out) == before


def test_a_missing_split_names_its_stage(fresh: Path) -> None:
    with pytest.raises(LnmtError, match="no such split") as caught:
        run(fresh)
    assert caught.value.fix == "run the stage before: lnmt stage process"
