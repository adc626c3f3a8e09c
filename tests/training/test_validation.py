"""Each task's validation pass is held to what the bundle's own predictions on the same texts give."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lnmt.bundles import Bundle
from lnmt.data.batches import Examples, load_examples
from lnmt.data.labels import join_names
from lnmt.models import load_model
from lnmt.models.base import Outputs, TrainingBatch
from lnmt.progress import Progress
from lnmt.runtime.predictor import Predictor
from lnmt.text.tokenizer import Tokenizer
from lnmt.training import validation
from lnmt.training.evaluation.tasks import EVALUATIONS
from lnmt.training.execution import Execution
from lnmt.training.metrics import validation_names
from lnmt.training.validation import validate
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import TASKS, task_rows
from tests.training.training_kit import train_params

ROWS = 40


class Case:
    """A bundle of a task with random weights, and a split."""

    def __init__(self, root: Path, task: Task) -> None:
        self.task = task
        self.bundle: Bundle = task_bundle(root / "bundle", task, max_tokens=64)  # no text is cut
        self.labels = self.bundle.manifest.labels
        self.tokenizer = Tokenizer(self.bundle.file("tokenizer.json"), self.bundle.manifest.max_tokens)
        rows = [{"label": None, **row} for row in task_rows(task, ROWS)]
        cells = [join_names(row["label"]) if isinstance(row["label"], list) else row["label"] for row in rows]
        columns = {"id": [row["id"] for row in rows], "text": [row["text"] for row in rows], "label": cells}
        self.table = pa.table(columns, pa.schema([(name, pa.string()) for name in columns]))
        (root / "split").mkdir()
        pq.write_table(self.table, root / "split/part-00000.parquet")
        self.examples: Examples = load_examples(
            root / "split", task, self.labels, self.tokenizer, Progress(show=False), cache=root / "tokens"
        )

    def execution(self) -> Execution:
        model = load_model(self.bundle)
        return Execution(model, train_params(), precision="fp32", compiled=False, device=torch.device("cpu"))

    def validate(self, **options: Any) -> dict[str, float]:
        return validate(self.execution(), self.examples, self.tokenizer, self.task, self.labels, **options)


Cases = Callable[[Task], Case]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return cache(lambda task: Case(tmp_path_factory.mktemp("validation"), task))


@pytest.fixture(params=TASKS)
def case(request: pytest.FixtureRequest, cases: Cases) -> Case:
    return cases(request.param)


def test_figures_are_those_of_the_bundles_own_answers(case: Case) -> None:
    found = case.validate()
    assert list(found) == validation_names(case.task)
    evaluation = EVALUATIONS[case.task](case.bundle)
    predictor = Predictor.open(case.bundle)
    rows = evaluation.rows(evaluation.answer(predictor, case.table, "split", lambda done: None), 1.0)
    predictor.close()
    expected = evaluation.metrics.points(evaluation.metrics.total(rows))
    if case.task == "text-generation":  # blocks cross the texts' ends, so that their tokens follow from other ones
        assert found["loss"] == pytest.approx(expected["loss"], rel=0.1)
        return
    same = set(found) & set(expected)
    assert len(same) >= 2
    assert {name: found[name] for name in same} == pytest.approx({name: expected[name] for name in same}, rel=1e-5)


def test_the_loss_is_the_tasks_over_everything_at_once(case: Case) -> None:
    from lnmt.models.losses import task_loss
    from lnmt.training.feed import to_batch

    batch = to_batch(case.examples, np.arange(len(case.examples)), case.tokenizer)
    with case.execution().evaluating() as run:
        logits = run(batch).logits
    assert case.validate()["loss"] == pytest.approx(float(task_loss(case.task, logits, batch.labels)), rel=1e-5)


@pytest.mark.parametrize("task", ["token-classification", "text-generation"])
def test_memory_holds_few_logits_at_a_time(task: Task, cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases(task)
    whole = case.validate()
    allowed = 3 * 64 * (case.tokenizer.vocabulary if task == "text-generation" else len(case.labels))
    monkeypatch.setattr(validation, "MAX_LOGITS", allowed)
    kind = type(load_model(case.bundle))
    seen: list[torch.Size] = []

    def spy(self: Any, batch: TrainingBatch) -> Outputs:
        outputs: Outputs = super(kind, self).validation_step(batch)
        seen.append(outputs.logits.shape)
        return outputs

    monkeypatch.setattr(kind, "validation_step", spy)
    assert case.validate() == pytest.approx(whole, rel=1e-5)
    assert sum(shape[0] for shape in seen) == len(case.examples)
    assert seen[0][0] == 1
    assert max(shape.numel() for shape in seen) <= allowed
    assert max(shape[0] for shape in seen) > 1


def test_figures_of_a_label_are_there_where_asked_for(cases: Cases) -> None:
    case = cases("text-classification")
    found = case.validate(also=("recall.neutral", "loss"))
    assert list(found) == ["loss", "accuracy", "macro_f1", "recall.neutral"]
    assert 0 <= found["recall.neutral"] <= 1


def test_the_model_learns_again_afterwards(cases: Cases) -> None:
    case = cases("text-regression")
    execution = case.execution()
    execution.model.train()
    validate(execution, case.examples, case.tokenizer, case.task, case.labels)
    assert execution.model.training
