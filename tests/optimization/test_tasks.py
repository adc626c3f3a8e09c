"""`optimize` for every task, and for a plugin's model that cannot do everything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.data.labels import join_names
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import write_json
from lnmt.models import MODELS
from lnmt.models.base import BaseModel, Inputs
from lnmt.optimization.inputs import read_split
from lnmt.optimization.optimize import optimize
from lnmt.runtime.capabilities import capabilities
from lnmt.runtime.predictor import Predictor
from lnmt.types import Task
from tests.optimization.conftest import quick, stage_io
from tests.task_bundle import task_bundle
from tests.task_kit import LABELS, TASKS, task_rows
from tests.tiny_bundle import LINEAGE, tiny_tokenizer

ROWS = 40
EXPECTED: Mapping[Task, tuple[str, str]] = {  # unit, metric
    "multi-label-classification": ("label sets", "micro_f1"),
    "text-regression": ("numbers", "rmse"),
    "token-classification": ("tags", "micro_f1"),
    "text-generation": ("next tokens", "loss"),
}


def write_split(directory: Path, task: Task, rows: int = ROWS) -> list[dict[str, Any]]:
    """The split as stage `process` leaves it: every label as text."""
    found = task_rows(task, rows)
    cells = [row.get("label") for row in found]
    table = {
        "id": [row["id"] for row in found],
        "text": [row["text"] for row in found],
        "label": [join_names(cell) if isinstance(cell, list) else cell for cell in cells],
    }
    directory.mkdir(parents=True)
    schema = pa.schema([(name, pa.string()) for name in table])
    pq.write_table(pa.table(table, schema=schema), directory / "part-00000.parquet")
    return found


def make_project(root: Path, task: Task, trained: Bundle) -> None:
    """What `optimize` reads beside the trained bundle."""
    for split in ("train", "validation", "test"):
        write_split(root / "data/processed" / split, task)
    (root / "data/production").mkdir()
    write_json(root / "reports/evaluation/calibration.json", {"temperature": 1.25})
    write_json(root / "reports/gate/approval.json", {"bundle": trained.digest, "passed": True})


def measurements(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / "reports/optimization/measurements.json").read_text())
    return document


@pytest.mark.parametrize("task", TASKS[1:])
def test_every_task_is_optimised(task: Task, tmp_path: Path) -> None:
    trained = task_bundle(tmp_path / "models/trained", task)
    make_project(tmp_path, task, trained)
    optimize(quick(rounds=3, batch_sizes=[1], slices=["length"]), stage_io(tmp_path))
    document = measurements(tmp_path)
    assert (document["task"], document["rows"]) == (task, {"validation": ROWS, "test": ROWS})
    unit, metric = EXPECTED[task]
    machine = capabilities()
    for entry in document["measurements"]:
        if machine.why_not(entry["engine"], entry["precision"]) is not None:
            continue
        assert entry["failure"] is None, entry
        parity = entry["parity"]
        assert (parity["unit"], parity["metric"]) == (unit, metric)
        assert (parity["flips"] is None) == (task == "text-regression")
        if entry["precision"] == "fp32":
            assert parity["flips"] in (0, None)
            assert parity["flip_share"] < 1e-5
            assert parity["max_difference"] < 1e-4
            assert abs(parity["metric_loss"]) < 1e-5
        else:
            assert 1e-4 < parity["max_difference"] < 0.5
    assert document["measurements"][0]["parity"]["units"] == _units(task, trained)
    reference, winner = (Bundle.open(tmp_path / "models" / name) for name in ("reference", "optimized"))
    assert f"{winner.manifest.engine}-{winner.manifest.precision}" == document["winner"].partition(" ")[0]
    assert {bundle.manifest.task for bundle in (reference, winner)} == {task}
    assert reference.manifest.temperature == 1.25
    profile = pq.read_table(winner.file("profile.parquet"))
    assert profile.num_rows == ROWS
    assert set(profile.schema.names) >= {"text", "characters", "tokens", "pooled_0"}
    page = (tmp_path / "reports/optimization/index.html").read_text()
    assert f"{metric} lost" in page
    assert ("mean move" if task == "text-regression" else f"{unit} flipped") in page


def _units(task: Task, bundle: Bundle) -> int:
    texts = [row["text"] for row in task_rows(task, ROWS)]
    predictor = Predictor.open(bundle, threads=1)
    answers = predictor.predict(texts)
    predictor.close()
    if task == "token-classification":
        return sum(len(one.words) for one in answers)
    return sum(one.tokens for one in answers) if task == "text-generation" else ROWS


@MODELS.register("bag-that-looks")
class BagThatLooks(BaseModel):
    """A bag of words whose forward asks for values, and adds fp32 numbers: no export, and no bf16."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(int(self.config["vocabulary"]), 8)
        self.head = nn.Linear(8, self.outputs)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        mask = inputs["attention_mask"].unsqueeze(-1).to(torch.float32)
        pooled = (self.embedding(inputs["input_ids"]) * mask).sum(dim=1) / mask.sum(dim=1)
        if float(pooled.detach().abs().max()) > 1e9:
            pooled = pooled / 2
        return self.head(pooled), pooled


def test_a_plugins_model_that_cannot_be_exported_ships_as_it_is(tmp_path: Path) -> None:
    labels = list(LABELS["text-classification"] or [])
    target = tmp_path / "models/trained"
    size = tiny_tokenizer(tmp_path / "tokenizer.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BagThatLooks({"task": "text-classification", "labels": len(labels), "vocabulary": size})
    draft = Draft(
        task="text-classification",
        labels=labels,
        model=model.describe("bag-that-looks"),
        engine="torch",
        precision="fp32",
        max_tokens=32,
        pad_multiple=8,
        temperature=1.0,
        processors=[],
        parent=None,
        lineage=LINEAGE,
        evidence={},
    )
    with new_bundle(target, draft) as directory:
        model.save(directory / "model.safetensors")
        (directory / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    make_project(tmp_path, "text-classification", Bundle.open(target))
    optimize(quick(engines=["torch", "onnxruntime", "openvino"], batch_sizes=[1]), stage_io(tmp_path))

    document = measurements(tmp_path)
    assert document["winner"] == "torch-fp32"
    failures = {entry["name"]: entry["failure"] for entry in document["measurements"]}
    assert failures["torch-fp32"] is None
    for name in ("onnxruntime-fp32", "openvino-fp32"):
        assert failures[name].startswith("ONNX export failed: ")
    if capabilities().why_not("torch", "bf16") is None:
        assert failures["torch-bf16"].startswith("engine 'torch' cannot run a batch: RuntimeError: ")
    page = (tmp_path / "reports/optimization/index.html").read_text()
    assert "ONNX export failed" in page


@pytest.mark.parametrize(
    ("task", "cell", "match"),
    [
        ("multi-label-classification", '["film", "fone"]', "did you mean 'phone'"),
        ("text-regression", "many", "row r0: 'many'"),
        ("token-classification", '["O", "B-PR"]', "did you mean 'B-PER'"),
    ],
)
def test_a_label_that_the_task_does_not_allow_is_told(task: Task, cell: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "validation").mkdir()
    table = pa.table({"id": ["r0"], "text": ["a b"], "label": [cell]})
    pq.write_table(table, tmp_path / "validation/part-00000.parquet")
    with pytest.raises(LnmtError, match=match) as raised:
        read_split(tmp_path / "validation", task, LABELS[task] or [])
    assert isinstance(raised.value, UnknownName) == (task != "text-regression")


def test_words_and_tags_must_stay_together(tmp_path: Path) -> None:
    from lnmt.optimization.answers import collect
    from lnmt.progress import Progress

    table = pa.table({"id": ["r0"], "text": ["anna visits paris"], "label": ["B-PER O"]})
    (tmp_path / "validation").mkdir()
    pq.write_table(table, tmp_path / "validation/part-00000.parquet")
    validation = read_split(tmp_path / "validation", "token-classification", list(LABELS["token-classification"] or []))
    predictor = Predictor.open(task_bundle(tmp_path / "bundle", "token-classification"), threads=1)
    with pytest.raises(LnmtError, match=r"3 words and 2 tags(?s:.*)row r0"):
        collect(predictor, validation, Progress(show=False), "torch-fp32")
    predictor.close()
