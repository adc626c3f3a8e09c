from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnmt.errors import DigestMismatch
from lnmt.registry import Registry
from lnmt.registry.connect import quietly
from lnmt.runtime.predictor import Predictor
from lnmt.types import Task
from tests.task_bundle import task_bundle
from tests.task_kit import TASKS
from tests.tiny_bundle import tiny_bundle

TEXTS = ["good film", "awful", "it is a book"]


def test_mlflow_loads_a_version_and_answers_as_the_engine_does(registry: Registry, name: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    version = registry.register(bundle, name=name, metrics={}, input_example=TEXTS[:1])
    where = registry.client.get_model_version_download_uri(name, str(version.number))
    with quietly():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(where)
        found = model.predict(pd.DataFrame({"text": TEXTS}, index=[5, 6, 7]))
    expected = Predictor.open(bundle, threads=1).predict(TEXTS)
    assert list(found["label"]) == [one.label for one in expected]
    assert list(found.index) == [5, 6, 7]
    for scores, one in zip(found["scores"], expected, strict=True):
        np.testing.assert_allclose(list(scores.values()), list(one.scores.values()), rtol=1e-5)

    weights = Path(where.removeprefix("file://")) / "data" / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with quietly(), pytest.raises(DigestMismatch):
        mlflow.pyfunc.load_model(where)


OUTPUTS: dict[Task, list[tuple[str, str]]] = {
    "multi-label-classification": [("labels", "Array(string)"), ("scores", "Map(str -> double)")],
    "text-regression": [("value", "double")],
    "token-classification": [("words", "Array(string)"), ("tags", "Array(string)")],
    "text-generation": [("loss", "double"), ("perplexity", "double")],
}


@pytest.mark.parametrize("task", TASKS[1:])
def test_every_task_has_its_own_columns(registry: Registry, name: str, tmp_path: Path, task: Task) -> None:
    bundle = task_bundle(tmp_path / "bundle", task)
    version = registry.register(bundle, name=name, metrics={}, input_example=TEXTS[:1])
    where = registry.client.get_model_version_download_uri(name, str(version.number))
    with quietly():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(where)
        found = model.predict(pd.DataFrame({"text": TEXTS}))
    columns = [(column.name, str(column.type)) for column in model.metadata.signature.outputs.inputs]
    assert [(name, kind.replace("DataType.", "")) for name, kind in columns] == OUTPUTS[task]
    predictor = Predictor.open(bundle, threads=1)
    expected = predictor.predict(TEXTS)
    predictor.close()
    assert list(found.columns) == [name for name, _ in OUTPUTS[task]]
    for column in found.columns:
        values = [getattr(one, column) for one in expected]
        assert list(found[column]) == [list(value) if isinstance(value, tuple) else value for value in values]
