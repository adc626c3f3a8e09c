from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnmt.errors import DigestMismatch
from lnmt.registry import Registry
from lnmt.registry.connect import quietly
from lnmt.runtime.predictor import Predictor
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
