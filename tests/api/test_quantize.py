from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnmt import Dataset, Model, Trainer, quantize
from lnmt.api.quantize import Agreement, compare
from lnmt.errors import LnmtError, UnknownName
from lnmt.types import LabelsPrediction, NumberPrediction, Prediction, TagsPrediction, TextPrediction


@pytest.mark.parametrize(
    ("method", "engine", "compression"),
    [
        ("dynamic", "onnxruntime", "dynamic_int8"),
        ("static", "onnxruntime", "static_int8"),
        ("static", "openvino", "static_int8"),
        ("weights", "onnxruntime", "weight_int8"),
        ("weights", "openvino", "weight_int8"),
    ],
)
def test_it_answers_almost_as_the_original_and_says_how_much(
    here: Path, method: str, engine: str, compression: str
) -> None:
    model = Model.load("models/mood")
    rows = Dataset.from_csv("reviews.csv", text="review", label="mood")
    small = quantize(model, method=method, dtype="int8", calibration=rows.texts, engine=engine)
    manifest = small.trained.manifest
    assert (manifest.engine, manifest.precision, manifest.parent) == (engine, "fp32", model.trained.digest)
    assert [plugin.name for plugin in manifest.compressions] == [compression]
    assert ("kept_float" in manifest.compressions[0].options["decided"]) == (method == "static")
    agreement = manifest.evidence["agreement"]
    assert agreement["texts"] == len(rows)
    assert agreement["same"] > 0.95
    assert 0 < agreement["mean_difference"] < 0.05
    accuracy = [Trainer(one).evaluate(rows)["accuracy"] for one in (model, small)]
    assert accuracy[0] > 0.9
    assert accuracy[1] == pytest.approx(accuracy[0], abs=0.05)
    weights = small.trained.file("model.bin" if engine == "openvino" else "model.onnx")
    assert weights.stat().st_size < model.trained.file("model.safetensors").stat().st_size
    again = Model.load(small.save("small"))
    assert [one.label for one in again.predict(rows.texts)] == [one.label for one in small.predict(rows.texts)]
    with pytest.raises(LnmtError, match="only a PyTorch model in fp32 is quantised"):
        quantize(small)
    with pytest.raises(LnmtError, match="only PyTorch's models are compiled"):
        small.compile()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"method": "qat"}, "quantisation-aware training is not there"),
        ({"method": "dynamical"}, "did you mean 'dynamic'?"),
        ({"engine": "openvino"}, "engine of dynamic quantisation"),
        ({"method": "weights", "engine": "openvin"}, "did you mean 'openvino'?"),
        ({"dtype": "int4"}, "weights are quantised to int8 alone"),
        ({"method": "static"}, "static quantisation measures activations on texts"),
    ],
)
def test_what_cannot_be_done_is_told(here: Path, said: dict[str, str], message: str) -> None:
    with pytest.raises(LnmtError, match=message):
        quantize(Model.load("models/mood"), **said)


def test_an_untrained_model_and_an_unknown_method_are_told(here: Path) -> None:
    with pytest.raises(LnmtError, match="has not been trained"):
        quantize(Model("local:encoder"))
    with pytest.raises(UnknownName):
        quantize(Model.load("models/mood"), "statik")


def test_agreement_is_of_decisions_and_of_numbers() -> None:
    pooled = np.zeros(2, dtype=np.float32)
    one = [Prediction("a", {"a": 0.75, "b": 0.25}, 1, pooled), Prediction("a", {"a": 1.0, "b": 0.0}, 1, pooled)]
    two = [Prediction("b", {"a": 0.25, "b": 0.75}, 1, pooled), one[1]]
    assert compare(one, two) == Agreement(2, 0.5, 0.25, 0.5)
    labels = [LabelsPrediction(("a",), {"a": 0.5}, 1)]
    assert compare(labels, [LabelsPrediction((), {"a": 0.25}, 1)]) == Agreement(1, 0.0, 0.25, 0.25)
    assert compare([NumberPrediction(1.0, 1)], [NumberPrediction(3.0, 1)]) == Agreement(1, 1.0, 2.0, 2.0)
    tags = [TagsPrediction(("x", "y"), ("O", "B-X"), 1)]
    assert compare(tags, [TagsPrediction(("x", "y"), ("O", "O"), 1)]) == Agreement(1, 0.5, 0.0, 0.0)
    assert compare([TextPrediction(1.0, 1)], [TextPrediction(1.5, 1)]) == Agreement(1, 1.0, 0.5, 0.5)
    assert compare([], []) == Agreement(0, 1.0, 0.0, 0.0)
