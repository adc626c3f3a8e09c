"""The stage on a tiny real encoder; killed runs are real processes."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnmt.bundles import Bundle
from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.files import directory_digest, file_digests, read_json
from lnmt.models import load_model
from lnmt.models.classifier import EncoderClassifier
from lnmt.training.fit import fingerprint
from tests.tiny_bundle import LABELS
from tests.training.training_kit import ENCODER, REPOSITORY, make_project, make_rows, run_train, train_params
from tests.tuning.tuning_kit import tiny_data


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was never trained; copied, not changed."""
    return make_project(tmp_path_factory.mktemp("train") / "source")


@pytest.fixture(scope="module")
def trained(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same project after the stage, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    root = shutil.copytree(source, tmp_path_factory.mktemp("train") / "trained")
    run_train(root)
    torch.set_num_threads(before)
    return root


@pytest.fixture
def project(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source, tmp_path / "project")


def losses(root: Path) -> list[str]:
    with (root / "reports/training/curves.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def notes(root: Path) -> list[str]:
    lines = map(json.loads, (root / "progress.jsonl").read_text().splitlines())
    return [line["note"] for line in lines if "note" in line]


def test_the_bundle_opens_and_says_where_it_comes_from(trained: Path) -> None:
    bundle = Bundle.open(trained / "models/trained")
    manifest = bundle.manifest
    assert (manifest.labels, manifest.engine, manifest.precision) == (list(LABELS), "torch", "fp32")
    assert (manifest.max_tokens, manifest.pad_multiple, manifest.temperature) == (20, 8, 1.0)
    assert [plugin.name for plugin in manifest.processors] == ["whitespace"]
    assert manifest.model["name"] == "encoder_classifier"
    assert manifest.lineage.data == directory_digest(trained / "data/processed")
    assert list(manifest.files) == ["model.safetensors", "tokenizer.json"]
    assert isinstance(load_model(bundle), EncoderClassifier)


def test_its_evidence_is_the_best_evaluation_and_nothing_of_time(trained: Path) -> None:
    evidence = Bundle.open(trained / "models/trained").manifest.evidence
    summary = read_json(trained / "reports/training/summary.json")
    assert evidence == {"validation": summary["validation"], "step": summary["best_step"], "trained_in": "fp32"}
    assert set(evidence["validation"]) == {"loss", "accuracy", "macro_f1"}
    assert evidence["validation"]["macro_f1"] > 0.6, "one word gives the label away; chance is 0.33"


def test_reports_hold_the_curves(trained: Path) -> None:
    assert list(file_digests(trained / "reports/training")) == [
        "curves.csv",
        "curves.svg",
        "summary.json",
        "validation.csv",
    ]
    with (trained / "reports/training/curves.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20"]
    with (trained / "reports/training/validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5", "10", "15", "20"]
    summary = read_json(trained / "reports/training/summary.json")
    assert (summary["steps"], summary["samples"], summary["stopped_early"]) == (20, 320, False)


def test_checkpoints_go_when_the_bundle_stands(trained: Path) -> None:
    assert list((trained / "work").rglob("*.safetensors")) == []


@pytest.mark.usefixtures("one_thread")
def test_the_same_inputs_give_the_same_bundle(trained: Path, project: Path) -> None:
    np.random.seed(3)  # what the process drew before must not matter
    torch.manual_seed(3)
    run_train(project)
    assert file_digests(project / "models/trained") == file_digests(trained / "models/trained")
    run_train(project, train_params(seed=8))
    assert file_digests(project / "models/trained") != file_digests(trained / "models/trained")


def cut(project: Path, step: int, number: int) -> int:
    """Train in a process that is sent the signal after `step` steps; its exit status."""
    command = [sys.executable, "-m", "tests.training.training_kit", str(project), str(step), str(int(number))]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, timeout=120).returncode


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("number", "status", "resumed"),
    [(signal.SIGKILL, -signal.SIGKILL, 10), (signal.SIGINT, 130, 13)],
)
def test_a_cut_run_goes_on_to_the_same_weights(
    trained: Path, project: Path, number: int, status: int, resumed: int
) -> None:
    earlier = project / "models/trained/earlier"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("stays until the new bundle is whole")

    assert cut(project, 13, number) == status
    assert [path.name for path in (project / "models").rglob("*")] == ["trained", "earlier"]
    assert not (project / "reports").exists()
    kept = sorted(path.name for path in (project / "work/checkpoints").iterdir())
    assert kept[-1] == f"step-{resumed:08d}"

    run_train(project)

    assert f"goes on from step {resumed} of 20" in notes(project)
    assert file_digests(project / "models/trained") == file_digests(trained / "models/trained")
    assert losses(project) == losses(trained)


def test_other_code_parameters_data_or_encoder_are_another_run(tmp_path: Path) -> None:
    data, options = tiny_data(tmp_path), train_params()
    first = fingerprint(options, data, [], {})
    assert first == fingerprint(options, data, [], {})
    assert first != fingerprint(options, data, ["tests.training.training_kit"], {})
    assert first != fingerprint(train_params(seed=8), data, [], {})
    assert first != fingerprint(options, replace(data, train=data.validation), [], {})
    assert first != fingerprint(options, data, [], {"precision": "bf16"})
    (data.encoder / "model.safetensors").write_bytes(b"other")
    assert first != fingerprint(options, data, [], {})


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(
    ("rows", "what", "value"),
    [
        (make_rows("x", 12, ["neutral"]), "has one label only", "12 rows, all 'neutral'"),
        ([], "has no rows", "0 rows"),
    ],
)
def test_a_split_needs_two_labels(tmp_path: Path, split: str, rows: Any, what: str, value: str) -> None:
    project = make_project(tmp_path, **{split: rows})
    with pytest.raises(LnmtError, match=f"the {split} split {what}") as caught:
        run_train(project)
    assert (caught.value.value, caught.value.where) == (value, project / "data/processed" / split)
    assert not (project / "models").exists()


def test_a_label_outside_the_set_stops_it(tmp_path: Path) -> None:
    project = make_project(tmp_path, validation=[*make_rows("v", 5), ("v-5", "fine", "postive")])
    with pytest.raises(UnknownName, match="unknown label 'postive'") as caught:
        run_train(project)
    assert caught.value.fix == "did you mean 'positive'?"


def test_an_unknown_model_is_told_the_near_one(project: Path) -> None:
    with pytest.raises(UnknownName, match="unknown model 'encoder_clasifier'") as caught:
        run_train(project, train_params(model={"name": "encoder_clasifier"}))
    assert (caught.value.where, caught.value.fix) == ("params.yaml: train.model", "did you mean 'encoder_classifier'?")


def test_an_encoder_with_another_digest_is_not_used(project: Path) -> None:
    digest = directory_digest(project / ENCODER)
    with pytest.raises(DigestMismatch) as caught:
        run_train(project, train_params(digest="sha256:" + "0" * 64))
    assert (caught.value.value, caught.value.where) == (digest, project / ENCODER)
    run_train(project, train_params(digest=digest, max_steps=1))
    assert (project / "models/trained/bundle.json").is_file()


def test_texts_longer_than_the_encoder_reads_are_refused(project: Path) -> None:
    with pytest.raises(LnmtError, match="longer than the encoder has positions") as caught:
        run_train(project, train_params(max_tokens=129))
    assert (caught.value.where, caught.value.value, caught.value.allowed) == (
        "params.yaml: train.max_tokens",
        129,
        "at most 128",
    )
