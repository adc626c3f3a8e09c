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
from lnmt.files import directory_digest, file_digests, write_json
from lnmt.optimization import answers, bench
from lnmt.optimization.candidate import REFERENCE
from lnmt.optimization.explain import explain
from lnmt.optimization.inputs import read_production, read_split, read_temperature
from lnmt.optimization.optimize import optimize
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
    assert [entry["name"].partition(" ")[0] for entry in document["measurements"]] == NAMES
    machine = capabilities()
    for entry in document["measurements"]:
        reason = machine.why_not(entry["engine"], entry["precision"])
        if reason is not None:
            assert entry["failure"] == entry["lost"] == f"not on this machine: {reason}"
            assert (entry["parity"], entry["latency"], entry["outcome"]) == (None, {}, "absent")
            continue
        assert entry["failure"] is None
        assert (entry["parity"]["unit"], entry["parity"]["units"]) == ("labels", 60)
        assert set(entry["latency"]) == ({"1", "4"} if entry["final"] else {"1"})
        if entry["final"]:
            assert entry["latency"]["1"]["calls"] == 4 * 8
            assert entry["latency"]["4"]["calls"] == 4 * 2
            assert 20 < entry["memory_mb"] < 5000
        assert (entry["name"] == document["winner"]) == (entry["outcome"] == "ships") == (entry["lost"] is None)
        if entry["precision"] == "fp32":
            assert entry["parity"]["flips"] == 0
            assert entry["parity"]["max_difference"] < 1e-4


def test_the_winner_carries_its_evidence_and_its_certificate(optimized: Path) -> None:
    document = measurements(optimized)
    reference, winner = (Bundle.open(optimized / "models" / name) for name in ("reference", "optimized"))
    assert f"{winner.manifest.engine}-{winner.manifest.precision}" == document["winner"].partition(" ")[0]
    assert document["winner"] != REFERENCE.name, "a tiny model is several times faster outside of PyTorch"
    evidence = winner.manifest.evidence["optimization"]
    measured = next(entry for entry in document["measurements"] if entry["name"] == document["winner"])
    assert evidence["measured"].items() <= measured.items()
    assert evidence["reference"]["bundle"] == reference.digest
    assert evidence["hardware"] == capabilities().hardware == document["machine"]["hardware"]
    assert winner.manifest.settings == measured["settings"]
    assert winner.manifest.temperature == 1.25
    assert winner.manifest.parent == reference.manifest.parent
    assert pq.read_table(winner.file("profile.parquet")).num_rows == 60
    assert not (optimized / "work").exists()


def test_the_certificate_says_what_was_shown_of_which_files(optimized: Path) -> None:
    reference, winner = (Bundle.open(optimized / "models" / name) for name in ("reference", "optimized"))
    proof = json.loads(winner.file("certificate.json").read_text())
    assert json.loads((optimized / "reports/optimization/certificate.json").read_text()) == proof
    assert proof["files"].items() <= winner.manifest.files.items()
    assert {*winner.manifest.files} - {*proof["files"]} == {"certificate.json", "profile.parquet"}
    assert proof["reference"]["bundle"] == reference.digest
    assert proof["data"] == directory_digest(optimized / "data/processed")
    assert proof["error_rate"] == 0.05
    parts = {part["name"]: part for part in proof["verdict"]["parts"]}
    assert {"overall", "flips", "macro-F1"} <= parts.keys()
    assert (parts["overall"]["rows"], parts["overall"]["margin"]) == (60, 0.5)
    assert parts["overall"]["estimate"] == 0.0
    assert 0.04 < parts["overall"]["upper"] < 0.06  # 3 in 60: nothing smaller can be shown of 60 texts
    assert all(part["p_value"] <= 0.05 for part in parts.values() if part["judged"])
    assert "150 are needed" in parts["label=positive"]["told"]
    assert proof["composition"]["texts"] == 60
    assert proof["composition"]["changed"] == 0
    assert proof["candidate"]["name"] in proof["tested_in_order"]


def test_the_search_is_told_in_words(optimized: Path) -> None:
    document = measurements(optimized)
    text = explain(document)
    assert text.startswith(f"{document['winner']} ships: fastest at batch size 1: ")
    assert "chosen on 60 rows of validation, certified on 60 of test." in text
    assert "overall: loses at most 0.0" in text
    for entry in document["measurements"]:
        if entry["name"] != document["winner"]:
            assert f"  {entry['name']}: {entry['lost']}\n" in text + "\n"


def test_what_a_compression_with_options_decided_is_told(optimized: Path) -> None:
    document = measurements(optimized)
    winner = next(entry for entry in document["measurements"] if entry["name"] == document["winner"])
    winner["decided"] = {"qat-1a2b3c": {}, "static_int8-4d5e6f": {"groups": 25, "kept_float": ["head"]}}
    assert "\nstatic_int8-4d5e6f decided: groups 25, kept_float head\n" in explain(document)
    assert "qat" not in explain(document)


def test_where_nothing_can_be_shown_the_reference_ships_and_says_why(tmp_path: Path) -> None:
    make_project(tmp_path, rows=60)
    narrow = quick(engines=["torch", "onnxruntime"], precisions=["fp32"], budget={"max_loss": 0.01})
    optimize(narrow, stage_io(tmp_path))
    document = measurements(tmp_path)
    assert document["winner"] == REFERENCE.name
    [lost] = [entry for entry in document["measurements"] if entry["engine"] == "onnxruntime"]
    assert lost["outcome"] == "refused"
    assert "overall: loses at most 0.04886, more than the 0.01 allowed (0 on 60 texts)" in lost["lost"]
    reference, shipped = (Bundle.open(tmp_path / "models" / name) for name in ("reference", "optimized"))
    assert shipped.digest == reference.digest
    assert not (tmp_path / "reports/optimization/certificate.json").exists()
    assert "certificate" not in (tmp_path / "reports/optimization/index.html").read_text().partition("<body>")[2]


def test_a_killed_search_goes_on_with_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, rows=30)
    params = quick(engines=["torch", "onnxruntime"], precisions=["fp32"])
    asked = list[str]()
    collect = answers.collect

    def counted(predictor: Any, held: Any, progress: Any, name: str) -> Any:
        asked.append(name)
        return collect(predictor, held, progress, name)

    def killed(self: object, entries: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "collect", counted)
    with monkeypatch.context() as patch:
        patch.setattr(bench.Bench, "race", killed)
        with pytest.raises(KeyboardInterrupt):
            optimize(params, stage_io(tmp_path))
    assert asked == ["validation torch-fp32", "validation onnxruntime-fp32"]
    optimize(params, stage_io(tmp_path))
    assert asked[2:] == ["test torch-fp32", "test onnxruntime-fp32"]
    assert measurements(tmp_path)["winner"].startswith("onnxruntime-fp32")


def test_after_the_time_limit_nothing_new_is_tried(tmp_path: Path) -> None:
    make_project(tmp_path, rows=30)
    optimize(quick(engines=["torch", "onnxruntime"], precisions=["fp32"], time_limit_s=1e-6), stage_io(tmp_path))
    document = measurements(tmp_path)
    assert document["winner"] == REFERENCE.name
    assert document["measurements"][1]["failure"] == "not tried: the time limit of 1e-06 s had passed"
    assert document["measurements"][1]["outcome"] == "absent"


def test_what_service_measured_is_read_and_shown(tmp_path: Path) -> None:
    make_project(tmp_path, rows=60)
    told = {"candidate": "onnxruntime-fp32", "requests": 9, "p50_ms": 4.5, "p99_ms": 9.0}
    document = {"format": 1, "hardware": "x", "tokens": [3] * 50, "bundles": {"sha256:a": told}}
    write_json(tmp_path / "data/production/latency.json", document)
    optimize(quick(engines=["torch", "onnxruntime"], precisions=["fp32"]), stage_io(tmp_path))
    found = measurements(tmp_path)
    assert found["measurements"][1]["in_service"] == [{"bundle": "sha256:a", **told}]
    assert "In service it took 4.50 ms (median of 9 requests, all layers)." in explain(found)


@pytest.mark.parametrize("content", ["{", "[]", '{"tokens": ["x"], "bundles": {}}'])
def test_damaged_latencies_of_service_say_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "latency.json").write_text(content)
    with pytest.raises(LnmtError, match="lnmt monitor --keep-latency"):
        read_production(tmp_path)


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
    assert sorted(file_digests(directory)) == ["certificate.json", "index.html", "latency.csv", "measurements.json"]
    with (directory / "latency.csv").open() as file:
        lines = list(csv.DictReader(file))
    document = measurements(optimized)
    times = [float(line["latency_ms"]) for line in lines if (line["candidate"], line["batch_size"]) == (NAMES[0], "1")]
    reference = document["measurements"][0]["latency"]["1"]
    assert len(times) == reference["calls"]
    assert np.median(times) == pytest.approx(reference["p50"]["ms"], abs=1e-4)
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

    original = TorchEngine.prepare

    def poisoned(self: TorchEngine, model: Any, cache: Path | None) -> Any:
        with torch.no_grad():
            model.head.bias.fill_(float("nan"))
        return original(self, model, cache)

    monkeypatch.setattr(TorchEngine, "prepare", poisoned)
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
        read_split(tmp_path / "validation", "text-classification", ["negative", "positive"])


def test_the_objective_must_be_measured() -> None:
    with pytest.raises(ValueError, match="must be one of batch_sizes"):
        quick(objective={"measure": "p50", "batch_size": 2})
