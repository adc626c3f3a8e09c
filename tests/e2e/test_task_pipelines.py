"""Each task from a source file to an engine that may ship, and on to the answers to a file: every stage is real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from lnmt.bundles import Bundle
from lnmt.cli import run
from lnmt.files import read_json
from lnmt.init.tasks import STARTS
from lnmt.settings import Settings
from lnmt.stages import STAGES, run_stage
from lnmt.training.metrics import default_metric
from lnmt.types import Task
from tests.task_kit import FILLING, ROWS, TASKS, Row, make_task_project, task_rows, write_source

NAMES = (("anna",), ("ben", "smith"), ("paris",), ("new", "york"))
# A bound of the task's own metric on test, far beyond what knows nothing: the baselines and the gates stand beside it.
GOOD: Mapping[Task, float] = {
    "text-classification": 0.9,
    "multi-label-classification": 0.9,
    "text-regression": 0.6,  # the numbers deviate by 0.75
    "token-classification": 0.9,
    "text-generation": 1.5,  # nats a token
}
ANSWER: Mapping[Task, str] = {
    "text-classification": "predicted_label",
    "multi-label-classification": "predicted_labels",
    "text-regression": "predicted_value",
    "token-classification": "predicted_tags",
    "text-generation": "loss",
}


def named_rows(rows: int) -> list[Row]:
    """A name is a person's before the verb and a place's behind it, so that no word alone tells its tag."""
    draw = np.random.default_rng(0)
    made: dict[str, list[str]] = {}
    while len(made) < rows:
        (person, place), verb = (NAMES[draw.integers(len(NAMES))] for _ in "ab"), str(draw.choice(["visits", "likes"]))
        filling = [str(word) for word in draw.choice(FILLING, draw.integers(2, 7))]
        tags = [*spans(person, "PER"), "O", *spans(place, "LOC"), *("O" for _ in filling)]
        made.setdefault(" ".join([*person, verb, *place, *filling]), tags)
    return [{"id": f"r{number}", "text": text, "label": tags} for number, (text, tags) in enumerate(made.items())]


def spans(words: tuple[str, ...], kind: str) -> list[str]:
    return [f"{'I' if number else 'B'}-{kind}" for number in range(len(words))]


@pytest.mark.parametrize("task", TASKS)
def test_from_source_to_answers(tmp_path: Path, task: Task) -> None:
    make_task_project(tmp_path, task)
    if task == "token-classification":
        write_source(tmp_path / "source", named_rows(ROWS))
    content = yaml.safe_load((tmp_path / "params.yaml").read_text())
    start = STARTS[task]
    content["evaluate"]["baselines"] = list(start.baselines)
    content["evaluate"]["slices"] = list(start.slices)
    content["gate"] = [dict(gate) for gate in start.gates if gate["above"] != "tfidf"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    import time
    for stage in STAGES:
        t=time.process_time()
        run_stage(stage.name, Settings(project=tmp_path, cache=tmp_path / "cache"))
        print(stage.name, round(time.process_time()-t,2))
        if stage.name == "evaluate":
            m = read_json(tmp_path / "reports/evaluation/metrics.json")
            print({k:v for k,v in m["test"].items() if isinstance(v,float)})
            for b, v in m["baselines"].items():
                print(b, {k:x for k,x in v.items() if isinstance(x,float)})
