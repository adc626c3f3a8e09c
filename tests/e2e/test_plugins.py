"""The example plugins, one package of each kind: installed, trained by the pipeline and the Python API, and served."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import pytest

from lnmt import Config
from lnmt.bundles import Bundle
from lnmt.cli import run
from lnmt.client import Client
from lnmt.drive.environment import child_environment
from lnmt.files import read_json, sha256_file
from lnmt.monitoring.events import read_events
from lnmt.params import Plugin
from lnmt.settings import load_settings
from tests.service_kit import Instance, make_service_project
from tests.task_kit import task_rows
from tests.tiny_bundle import tiny_bundle, tiny_encoder

pytestmark = pytest.mark.timeout(600)

KINDS = ("model", "processor", "optimizer", "callback", "postprocessor")
MODULES = [f"lnmt_example_{kind}" for kind in KINDS]
NAMES = {
    "lnmt.model": "my-custom-transformer",
    "lnmt.processor": "my-text-processor",
    "lnmt.optimizer": "my-optimizer",
    "lnmt.callback": "stop-at-target",
    "lnmt.postprocessor": "my-postprocessor",
}
MODEL = {"name": "my-custom-transformer", "width": 32, "blocks": 1, "heads": 2, "dropout": 0.0}
PROCESSOR = {"name": "my-text-processor", "word": "this", "min_words": 2}
OPTIMIZER = {"name": "my-optimizer", "lr": 2e-3, "weight_decay": 0.1}
CALLBACK = {"name": "stop-at-target", "metric": "macro_f1", "at_least": 0.95}
POSTPROCESSOR = {"name": "my-postprocessor", "words": ["lawsuit"], "margin": 1.0}

API = f"""
import json, sys
import lnmt

data = lnmt.Dataset.from_csv("rows.csv").process({PROCESSOR!r})
train, validation, test = data.split(train=0.6, validation=0.2, test=0.2)
options = {MODEL!r}
model = lnmt.Model(options.pop("name"), encoder="local:encoder", **options)
trainer = lnmt.Trainer(model, epochs=30, batch_size=16, precision="fp32", evaluations_per_epoch=1, patience=30,
                       optimizer={OPTIMIZER!r}, callbacks=[{CALLBACK!r}], max_tokens=32)
trainer.fit(train, validation)
model.save("model")
small = lnmt.quantize(model, calibration=test.texts)  # its export to ONNX, run by another engine
found = {{"label": model.predict("good http://x.org").label, **trainer.evaluate(test)}}
print(json.dumps({{**found, "same": small.bundle.manifest.evidence["agreement"]["same"]}}))
"""


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages installed, built from copies of their sources."""
    home = tmp_path_factory.mktemp("plugins")
    for kind in KINDS:
        shutil.copytree(repository / "examples" / "plugins" / kind, home / kind)
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
    ]
    places = ["--python", sys.executable, "--target", str(home / "site")]
    subprocess.run([*install, *places, *(str(home / kind) for kind in KINDS)], check=True)
    return home / "site"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of own data whose params.yaml names the plugins; nothing has run in it."""
    home = tmp_path_factory.mktemp("own")
    write_rows(home / "rows.csv")
    project = home / "project"
    assert run(["init", str(project), "--data", str(home / "rows.csv"), "--yes"]) == 0
    tiny_encoder(project / "encoder")
    config = Config.from_yaml(project / "params.yaml")
    config.update(
        {
            "validate.min_rows": 100,
            "process.processors": [*config["process.processors"], PROCESSOR],
            "process.split": {"train": 0.6, "validation": 0.2, "test": 0.2},
            "train.model": MODEL,
            "train.optimizer": OPTIMIZER,
            "train.callbacks": [CALLBACK],
        },
        train={
            "encoder": "local:encoder",
            "digest": None,
            "max_tokens": 32,
            "epochs": 30,
            "batch_size": 16,
            "precision": "fp32",
            "evaluations_per_epoch": 1,
            "patience": 30,
        },
    ).save(project / "params.yaml")
    return project


@pytest.fixture(scope="module")
def trained(project: Path, site: Path) -> Path:
    """The project after `lnmt run train` with the packages installed."""
    lnmt_command(project, site, "run", "train")
    return project


def test_the_packages_name_their_plugins(site: Path) -> None:
    points = [point for found in distributions(path=[str(site)]) for point in found.entry_points]
    assert {point.group: point.name for point in points} == NAMES


def test_the_pipeline_trains_them(trained: Path) -> None:
    bundle = Bundle.open(trained / "models/trained")
    assert {key: bundle.manifest.model[key] for key in MODEL} == MODEL
    assert bundle.manifest.processors[-1] == Plugin(**PROCESSOR)
    summary = read_json(trained / "reports/process/summary.json")
    assert summary["processors"][-1]["name"] == "my-text-processor"
    assert bundle.manifest.evidence["validation"]["macro_f1"] >= 0.95


def test_the_callback_ended_the_run(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / ".lnmt/progress/train.jsonl").read_text().splitlines()]
    notes = [line["note"] for line in lines if "note" in line]
    assert [note for note in notes if "macro_f1 reached 0.95" in note] != []


def test_as_modules_beside_params_yaml_they_train_to_the_same_weights(
    trained: Path, site: Path, tmp_path: Path
) -> None:
    """Not installed, and both: installed and named."""
    before = sha256_file(trained / "models/trained/model.safetensors")
    project = shutil.copytree(trained, tmp_path / "project", symlinks=True)
    for module in MODULES:
        shutil.copy(site / f"{module}.py", project)
    Config.from_yaml(project / "params.yaml").update(plugins=MODULES).save(project / "params.yaml")
    lnmt_command(project, None, "stage", "train")
    assert sha256_file(project / "models/trained/model.safetensors") == before
    lnmt_command(project, site, "stage", "process")


def test_the_python_api_trains_them(site: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    tiny_encoder(tmp_path / "encoder")
    done = subprocess.run(
        [sys.executable, "-c", API],
        cwd=tmp_path,
        env=with_site({**os.environ, "LNMT_THREADS": "1", "OMP_NUM_THREADS": "1"}, site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] > 0.9
    assert found["label"] == "positive"
    assert found["same"] > 0.9
    assert "macro_f1 reached 0.95" in done.stderr
    manifest = Bundle.open(tmp_path / "model").manifest
    assert (manifest.model["name"], manifest.processors) == ("my-custom-transformer", [Plugin(**PROCESSOR)])


@pytest.mark.parametrize("installed", [True, False])
def test_the_service_runs_the_postprocessor(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """The package installed, or its module beside params.yaml."""
    project = make_service_project(tmp_path / "project", tiny_bundle(tmp_path / "champion"))
    plugins = [] if installed else [MODULES[-1]]
    changes = {"plugins": plugins, "serve.postprocessors": [POSTPROCESSOR]}
    Config.from_yaml(project / "params.yaml").update(changes).save(project / "params.yaml")
    if installed:
        monkeypatch.setenv("PYTHONPATH", str(site))
    else:
        shutil.copy(site / f"{MODULES[-1]}.py", project)
    service = Instance(project)
    try:
        service.await_ready()
        with Client(service.url) as client:
            close, withheld = client.predict(["a good film", "a good lawsuit"])
        metrics = httpx.get(f"{service.url}/metrics", trust_env=False).text
    finally:
        service.kill()
    assert (close.label, sorted(close.scores), close.withheld) == ("unsure", ["negative", "neutral", "positive"], None)
    assert (withheld.label, withheld.scores, withheld.withheld) == (None, {}, "a person answers this")
    assert 'lnmt_withheld_total{model="sentiment",postprocessor="my-postprocessor"} 1.0' in metrics
    told = {event.id: (event.given_label, event.withheld) for event in read_events(project / ".lnmt/events")}
    assert told == {close.prediction_id: ("unsure", None), withheld.prediction_id: (None, "a person answers this")}


def lnmt_command(project: Path, site: Path | None, *arguments: str) -> None:
    environment = {**child_environment(load_settings(project)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lnmt", *arguments, "--project", str(project)],
        env=with_site(environment, site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def with_site(environment: dict[str, str], site: Path | None) -> dict[str, str]:
    return {**environment, **({} if site is None else {"PYTHONPATH": str(site)})}


def write_rows(path: Path) -> None:
    rows: list[dict[str, Any]] = task_rows("text-classification")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(rows)
