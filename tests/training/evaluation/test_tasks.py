"""The stage on each task: figures are computed once more, in another way, from the predictions that it wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score, r2_score

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import file_digests, read_json
from lnmt.models import load_model
from lnmt.params import Gate, Plugin
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.metrics import default_metric
from lnmt.types import Task
from tests.task_kit import LABELS, TASKS
from tests.training.evaluation.evaluation_kit import make_project, run, write_split

BASELINES: dict[Task, list[str]] = {
    "text-classification": ["majority", "tfidf"],
    "multi-label-classification": ["prior", "tfidf"],
    "text-regression": ["mean", "tfidf"],
    "token-classification": ["frequent_tag"],
    "text-generation": ["unigram"],
}
COMMON = {"calibration.json", "confusion.csv", "index.html", "metrics.json", "predictions.parquet", "verdict.json"}


class Case:
    """The stage's outcome with every baseline and slice of a task, and a gate against a baseline."""

    def __init__(self, root: Path, task: Task) -> None:
        self.root = root
        self.task = task
        self.bundle: Bundle = make_project(root, task)
        self.metrics = self.run()
        self.out = root / "reports/evaluation"

    def run(self) -> Any:
        slices = ["length", "half", *(["label"] if "label-" in self.task else [])]
        gates = [Gate(metric=default_metric(self.task), above=BASELINES[self.task][0], by=0.0)]
        return run(self.root, gates, baselines=BASELINES[self.task], slices=slices)

    def predictions(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = pq.read_table(self.out / "predictions.parquet").to_pydict()
        return found


@pytest.fixture(scope="module", params=TASKS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("evaluation"), request.param)


def multi_label(rows: dict[str, list[Any]], test: dict[str, Any]) -> None:
    labels = LABELS["multi-label-classification"] or []
    actual, predicted = (
        np.array([[label in names for label in labels] for names in rows[column]]) for column in ("label", "predicted")
    )
    assert test["micro_f1"] == pytest.approx(f1_score(actual, predicted, average="micro"))
    assert test["hamming_loss"] == pytest.approx((actual != predicted).mean())
    assert ((np.array(rows["scores"]) >= 0.5) == predicted).all()


def regression(rows: dict[str, list[Any]], test: dict[str, Any]) -> None:
    actual, predicted = np.array(rows["label"]), np.array(rows["predicted"])
    assert test["rmse"] == pytest.approx(np.sqrt(((actual - predicted) ** 2).mean()))
    assert test["r2"] == pytest.approx(r2_score(actual, predicted))
    assert test["pearson"] == pytest.approx(np.corrcoef(actual, predicted)[0, 1])


def tags(rows: dict[str, list[Any]], test: dict[str, Any]) -> None:
    pairs = [pair for row in zip(rows["label"], rows["predicted"], strict=True) for pair in zip(*row, strict=True)]
    assert test["token_accuracy"] == pytest.approx(sum(asked == found for asked, found in pairs) / len(pairs))
    people = sum(asked == "B-PER" for asked, _ in pairs)
    assert [entry["support"] for entry in test["per_class"] if entry["label"] == "PER"] == [people]


def language(rows: dict[str, list[Any]], test: dict[str, Any]) -> None:
    nats, tokens = np.array(rows["loss"]) * rows["tokens"], sum(rows["tokens"])
    assert test["loss"] == pytest.approx(nats.sum() / tokens)
    assert test["perplexity"] == pytest.approx(np.exp(nats.sum() / tokens))
    assert test["bits_per_byte"] == pytest.approx(nats.sum() / np.log(2) / sum(rows["bytes"]))


def labels(rows: dict[str, list[Any]], test: dict[str, Any]) -> None:
    right = [asked == found for asked, found in zip(rows["label"], rows["predicted"], strict=True)]
    assert test["accuracy"] == pytest.approx(np.mean(right))


CHECKS = dict(zip(TASKS, (labels, multi_label, regression, tags, language), strict=True))


def test_metrics_are_those_of_the_written_predictions(case: Case) -> None:
    rows = case.predictions()
    assert rows["id"] == pq.read_table(case.root / "data/processed/test")["id"].to_pylist()
    assert case.metrics["test"]["rows"] == 50
    CHECKS[case.task](rows, case.metrics["test"])


def test_baselines_are_beaten_by_what_their_figures_say(case: Case) -> None:
    first, test = default_metric(case.task), case.metrics["test"]
    assert list(case.metrics["baselines"]) == BASELINES[case.task]
    sign = -1 if first in ("rmse", "loss") else 1
    for found in case.metrics["baselines"].values():
        assert found[f"gain_{first}"] == pytest.approx(sign * (test[first] - found[first]))
        low, high = found["intervals"][f"gain_{first}"]
        assert low <= found[f"gain_{first}"] <= high
    (gate,) = read_json(case.out / "verdict.json")["gates"]
    assert gate["observed"] == case.metrics["baselines"][BASELINES[case.task][0]][f"gain_{first}"]


def test_slices_are_parts_of_test(case: Case) -> None:
    slices = case.metrics["slices"]
    for name in ("length", "half"):
        assert sum(part["rows"] for part in slices if part["slice"] == name) == 50
    assert {part["slice"] for part in slices} == {"length", "half"} | ({"label"} if "label-" in case.task else set())


def test_the_files_are_there_and_those_to_plot_have_their_header(case: Case) -> None:
    extra = {
        "text-classification": {"reliability.csv", "reliability_uncalibrated.csv"},
        "multi-label-classification": {"reliability.csv", "reliability_uncalibrated.csv"},
        "text-regression": {"reliability.csv", "scatter.csv"},
    }
    assert set(file_digests(case.out)) == COMMON | extra.get(case.task, {"reliability.csv"})
    assert (case.out / "confusion.csv").read_text().startswith("actual,predicted\n")
    assert (case.out / "reliability.csv").read_text().startswith("low,high,rows,confidence,accuracy\n")


def test_only_scores_have_a_temperature(case: Case) -> None:
    temperature = read_json(case.out / "calibration.json")["temperature"]
    if case.task in ("text-classification", "multi-label-classification"):
        assert temperature == case.metrics["temperature"] != 1.0
        assert case.metrics["validation"] == {"rows": 40}
        assert case.metrics["test"]["ece"] < case.metrics["test"]["ece_uncalibrated"]
    else:
        assert temperature == 1.0
        assert "temperature" not in case.metrics


def test_the_page_needs_nothing_from_outside(case: Case) -> None:
    page = (case.out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|@import|url\(|<script", page)
    assert f"{case.metrics['test'][default_metric(case.task)]:.3f}" in page
    assert page.count("<section>") == page.count("</section>")
    assert page.count("<div") == page.count("</div>")
    assert ("Entity types" in page) == (case.task == "token-classification")
    assert ("Predicted against actual" in page) == (case.task == "text-regression")


def test_the_same_again_is_the_same_bytes(case: Case) -> None:
    before = file_digests(case.out)
    case.run()
    assert file_digests(case.out) == before


def test_every_token_of_a_long_text_is_predicted_once(tmp_path: Path) -> None:
    bundle = make_project(tmp_path, "text-generation", max_tokens=6)
    texts = ["anna likes rome, and that is all. ben smith visits new york.", "dora"]
    write_split(tmp_path, "test", [{"id": str(place), "text": text} for place, text in enumerate(texts)])
    run(tmp_path)
    found = pq.read_table(tmp_path / "reports/evaluation/predictions.parquet").to_pydict()
    tokenizer, model = Tokenizer(bundle.file("tokenizer.json"), 64), load_model(bundle)
    for place, text in enumerate(texts):
        end = tokenizer.end_id
        ids = [end, *tokenizer.encode([text])[0], end]
        nats = 0.0
        for start in range(0, len(ids) - 1, 5):  # windows of 6 tokens, the first of which is the last of the one before
            window = torch.tensor([ids[start : start + 6]])
            with torch.no_grad():
                logits = model({"input_ids": window, "attention_mask": torch.ones_like(window)})[0][0]
            nats -= float(logits.log_softmax(dim=-1)[torch.arange(window.shape[1] - 1), window[0, 1:]].sum())
        assert found["tokens"][place] == len(ids) - 1
        assert found["loss"][place] == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
        assert found["bytes"][place] == len(text)


def test_rows_without_labels_have_no_slice_of_them(tmp_path: Path) -> None:
    make_project(tmp_path, "text-regression")
    with pytest.raises(UnknownName, match="unknown slice 'label'") as caught:
        run(tmp_path, slices=["label"])
    assert caught.value.allowed == "half, length"


def test_a_baseline_of_another_task_is_refused(tmp_path: Path) -> None:
    make_project(tmp_path, "text-regression")
    with pytest.raises(LnmtError, match="the vader baseline is not for text-regression"):
        run(tmp_path, baselines=["vader"])


def test_a_gate_on_another_tasks_metric_is_refused(tmp_path: Path) -> None:
    make_project(tmp_path, "text-regression")
    with pytest.raises(UnknownName, match="unknown metric 'macro_f1'") as caught:
        run(tmp_path, [Gate(metric="macro_f1", at_least=0.5)])
    assert caught.value.allowed == "mae, pearson, r2, rmse"


def test_no_validation_rows_are_needed_where_nothing_is_fitted_on_them(tmp_path: Path) -> None:
    make_project(tmp_path, "text-regression")
    write_split(tmp_path, "validation", [])
    assert run(tmp_path)["test"]["rows"] == 50


def test_processors_that_change_words_are_refused(tmp_path: Path) -> None:
    make_project(tmp_path, "token-classification", processors=[Plugin(name="unescape")])
    write_split(tmp_path, "test", [{"id": "7", "text": "anna&#32;met ben", "label": ["B-PER", "B-PER"]}])
    with pytest.raises(LnmtError, match="the bundle's processors make 3 words of a row's 2") as caught:
        run(tmp_path)
    assert caught.value.value == "row 7"
