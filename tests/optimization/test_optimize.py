from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lnmt.bundles import Bundle
from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.files import file_digests, write_json
from lnmt.optimization.candidate import REFERENCE
from lnmt.optimization.inputs import read_temperature, read_validation
from lnmt.optimization.optimize import list_candidates, optimize
from lnmt.params import Params
from lnmt.runtime.capabilities import capabilities
from lnmt.runtime.predictor import Predictor
from tests.optimization.conftest import make_project, quick, stage_io

NAMES = ["torch-fp32", "torch-bf16", "onnxruntime-fp32", "onnxruntime-bf16", "openvino-fp32", "openvino-bf16"]


def measurements(root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((root / "reports/optimization/measurements.json").read_text())
    return document


def test_the_reference_bundle_is_the_trained_one_with_its_temperature(optimized: Path) -> None:
    trained, reference = (Bundle.open(optimized / "models" / name) for name in ("trained", "reference"))
    assert reference.manifest.parent == trained.digest
    assert reference.manifest.temperature == 1.25
    assert (reference.manifest.engine, reference.manifest.precision) == ("torch", "fp32")
    assert sorted(reference.manifest.files) == ["model.safetensors", "profile.parquet", "tokenizer.json"]
    for name in ("model.safetensors", "tokenizer.json"):
        assert reference.manifest.files[name] == trained.manifest.files[name]
    assert pq.read_table(reference.file("profile.parquet")).num_rows == 60


def test_every_candidate_is_measured_or_says_why_not(optimized: Path) -> None:
    document = measurements(optimized)
    assert [entry["name"] for entry in document["measurements"]] == NAMES
    machine = capabilities()
    for entry in document["measurements"]:
        reason = machine.why_not(entry["engine"], entry["precision"])
        if reason is not None:
            assert entry["failure"] == entry["lost"] == f"not on this machine: {reason}"
            assert (entry["parity"], entry["latency"]) == (None, {})
            continue
        assert entry["failure"] is None
        assert (entry["parity"]["unit"], entry["parity"]["units"]) == ("labels", 60)
        assert set(entry["latency"]) == {"1", "4"}
        assert entry["latency"]["1"]["calls"] == 4 * 8
        assert entry["latency"]["4"]["calls"] == 4 * 2
        assert (entry["name"] == document["winner"]) == (entry["lost"] is None)
        if entry["precision"] == "fp32":
            assert entry["parity"]["flips"] == 0
            assert entry["parity"]["max_difference"] < 1e-4


def test_the_winner_carries_its_evidence(optimized: Path) -> None:
    document = measurements(optimized)
    reference, winner = (Bundle.open(optimized / "models" / name) for name in ("reference", "optimized"))
    assert f"{winner.manifest.engine}-{winner.manifest.precision}" == document["winner"]
    assert document["winner"] != REFERENCE.name, "a tiny model is several times faster outside of PyTorch"
    evidence = winner.manifest.evidence["optimization"]
    measured = next(entry for entry in document["measurements"] if entry["name"] == document["winner"])
    assert evidence["measured"] | {"lost": None} == measured
    assert evidence["reference"]["bundle"] == reference.digest
    assert evidence["hardware"] == capabilities().hardware == document["machine"]["hardware"]
    assert winner.manifest.temperature == 1.25
    assert winner.manifest.parent == reference.manifest.parent
    assert pq.read_table(winner.file("profile.parquet")).num_rows == 60
    assert not (optimized / "work").exists()


def test_both_bundles_answer_alike(optimized: Path) -> None:
    texts = ["good film", "a " * 80, "", "dull plot and a poor book, but great price!"]
    answers = []
    for name in ("reference", "optimized"):
        predictor = Predictor.open(Bundle.open(optimized / "models" / name), threads=1)
        answers.append(predictor.outputs(texts)[0].logits)
        predictor.close()
    np.testing.assert_allclose(answers[0], answers[1], atol=0.2)


def test_the_raw_times_and_the_page_stand_beside(optimized: Path) -> None:
    directory = optimized / "reports/optimization"
    assert sorted(file_digests(directory)) == ["index.html", "latency.csv", "measurements.json"]
    with (directory / "latency.csv").open() as file:
        lines = list(csv.DictReader(file))
    document = measurements(optimized)
    times = [float(line["latency_ms"]) for line in lines if (line["candidate"], line["batch_size"]) == (NAMES[0], "1")]
    reference = document["measurements"][0]["latency"]["1"]
    assert len(times) == reference["calls"]
    assert np.median(times) == pytest.approx(reference["median_ms"], abs=1e-4)
    page = (directory / "index.html").read_text()
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", page)
    assert all(name in page for name in NAMES)
    assert page.count("<circle") == sum(entry["failure"] is None for entry in document["measurements"])


def test_the_onnx_file_is_whole_and_shares_its_dimensions(tmp_path: Path) -> None:
    from lnmt.optimization.backends import Source
    from lnmt.optimization.export import export_onnx
    from tests.tiny_bundle import tiny_bundle

    source = Source(tiny_bundle(tmp_path / "bundle"), tmp_path / "work")
    path = export_onnx(source)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(path, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["input_ids"] == shapes["attention_mask"]
    assert len(set(shapes["input_ids"])) == 2
    batch = shapes["input_ids"][0]
    assert (shapes["logits"], shapes["pooled"]) == ([batch, 3], [batch, 32])
    assert b".py" not in path.read_bytes(), "no path of the machine that exported it"


def test_no_better_candidate_ships_the_reference_itself(tmp_path: Path) -> None:
    make_project(tmp_path, rows=20)
    optimize(quick(engines=["torch"], precisions=["fp32"]), stage_io(tmp_path))
    assert Bundle.open(tmp_path / "models/optimized").digest == Bundle.open(tmp_path / "models/reference").digest
    assert measurements(tmp_path)["winner"] == "torch-fp32"


def test_a_candidate_that_does_not_build_is_reported_not_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnmt.optimization import export

    def broken(_: object) -> bytes:
        raise RuntimeError("no symbolic shape\nlong story")

    monkeypatch.setattr(export, "_export", broken)
    make_project(tmp_path, rows=20)
    optimize(quick(engines=["torch", "onnxruntime", "openvino"], precisions=["fp32"]), stage_io(tmp_path))
    document = measurements(tmp_path)
    assert document["winner"] == "torch-fp32"
    assert [entry["failure"] for entry in document["measurements"]] == [
        None,
        "ONNX export failed: RuntimeError: no symbolic shape",
        "ONNX export failed: RuntimeError: no symbolic shape",
    ]


def test_the_reference_must_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lnmt.runtime.torch import TorchEngine

    original = TorchEngine.load

    def poisoned(self: TorchEngine, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        assert self._model is not None
        with torch.no_grad():
            self._model.head.bias.fill_(float("nan"))  # type: ignore[union-attr,operator]

    monkeypatch.setattr(TorchEngine, "load", poisoned)
    make_project(tmp_path, rows=20)
    with pytest.raises(LnmtError, match="not finite"):
        optimize(quick(), stage_io(tmp_path))
    assert not (tmp_path / "models/optimized").exists()


def run(root: Path, params: Params | None = None) -> None:
    optimize(params or quick(), stage_io(root))


def test_refuses_what_was_not_approved(tmp_path: Path) -> None:
    trained = make_project(tmp_path, rows=5)
    approval = tmp_path / "reports/gate/approval.json"
    write_json(approval, {"bundle": "sha256:" + "0" * 64, "passed": True})
    with pytest.raises(DigestMismatch, match=trained.digest):
        run(tmp_path)
    write_json(approval, {"bundle": trained.digest, "passed": False})
    with pytest.raises(LnmtError, match="did not approve"):
        run(tmp_path)
    approval.unlink()
    with pytest.raises(LnmtError, match="passed no gate"):
        run(tmp_path)
    assert not (tmp_path / "models/reference").exists()


@pytest.mark.parametrize("temperature", [0, -1, "1", None, True])
def test_refuses_a_temperature_that_is_none(tmp_path: Path, temperature: object) -> None:
    write_json(tmp_path / "calibration.json", {"temperature": temperature})
    with pytest.raises(LnmtError, match="no positive number"):
        read_temperature(tmp_path)


def test_refuses_an_absent_calibration(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="not calibrated"):
        read_temperature(tmp_path)


def test_refuses_an_empty_validation_split(tmp_path: Path) -> None:
    make_project(tmp_path, rows=0)
    with pytest.raises(LnmtError, match="validation split is empty"):
        run(tmp_path)
    assert not (tmp_path / "models/reference").exists()


def test_refuses_a_label_that_the_model_does_not_know(tmp_path: Path) -> None:
    table = {"id": ["1"], "text": ["x"], "label": ["postive"]}
    (tmp_path / "validation").mkdir()
    pq.write_table(pa.table(table), tmp_path / "validation/part-00000.parquet")
    with pytest.raises(UnknownName, match="did you mean 'positive'"):
        read_validation(tmp_path / "validation", "text-classification", ["negative", "positive"])


def test_an_unknown_engine_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'openvino'"):
        list_candidates(quick(engines=["openvina"]).optimize)


def test_the_reference_is_always_a_candidate() -> None:
    names = [candidate.name for candidate in list_candidates(quick(engines=["openvino"], precisions=["bf16"]).optimize)]
    assert names == ["torch-fp32", "openvino-bf16"]


def test_the_objective_must_be_measured() -> None:
    with pytest.raises(ValueError, match="must be one of batch_sizes"):
        quick(objective_batch_size=2)
