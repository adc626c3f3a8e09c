from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

from lnmt.files import file_digests, read_json
from lnmt.training.state import TrainState
from lnmt.training.training_report import write_report

STATE = TrainState(
    step=20,
    samples=640,
    tokens=8000,
    waited_s=0.1,
    best_step=10,
    best={"loss": 0.5, "accuracy": 0.75, "macro_f1": 0.7},
    stopped=True,
    seconds=4.0,
    curve=[
        {"step": 10, "epoch": 0.5, "loss": 1.0986122886681098, "lr": 2e-4, "samples_per_second": 160.0},
        {"step": 20, "epoch": 1.0, "loss": 0.5, "lr": 1e-5, "samples_per_second": 161.5},
    ],
    validation=[
        {"step": 10, "loss": 0.5, "accuracy": 0.75, "macro_f1": 0.7},
        {"step": 20, "loss": 0.6, "accuracy": 0.7, "macro_f1": 0.6},
    ],
)
CHOICES = {"precision": {"precision": "bf16", "why": "asked for", "rates": {}}}


def test_curves_are_csv_that_dvc_plots(tmp_path: Path) -> None:
    write_report(tmp_path / "training", STATE, "macro_f1", CHOICES)
    assert (tmp_path / "training/curves.csv").read_text() == (
        "step,epoch,loss,lr,samples_per_second\n10,0.5,1.098612289,0.0002,160\n20,1,0.5,1e-05,161.5\n"
    )
    with (tmp_path / "training/validation.csv").open() as file:
        assert [row["macro_f1"] for row in csv.DictReader(file)] == ["0.7", "0.6"]


def test_the_summary_tells_the_outcome(tmp_path: Path) -> None:
    write_report(tmp_path / "training", STATE, "macro_f1", CHOICES)
    assert read_json(tmp_path / "training/summary.json") == {
        "steps": 20,
        "samples": 640,
        "tokens": 8000,
        "seconds": 4.0,
        "samples_per_second": 160.0,
        "tokens_per_second": 2000.0,
        "input_share": 0.025,
        "stopped_early": True,
        "best_step": 10,
        "validation": {"loss": 0.5, "accuracy": 0.75, "macro_f1": 0.7},
        "left_out": [],
        "precision": {"precision": "bf16", "why": "asked for", "rates": {}},
    }


def test_the_picture_is_svg_and_replaces_the_one_before(tmp_path: Path) -> None:
    write_report(tmp_path / "training", STATE, "macro_f1", CHOICES)
    (tmp_path / "training/left-over").touch()
    write_report(tmp_path / "training", STATE, "macro_f1", CHOICES)
    assert list(file_digests(tmp_path / "training")) == ["curves.csv", "curves.svg", "summary.json", "validation.csv"]
    assert ElementTree.parse(tmp_path / "training/curves.svg").getroot().tag.endswith("svg")
