from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.models import load_model
from lnmt.models.base import BaseModel
from lnmt.models.blocks import find_blocks, find_units
from lnmt.models.structure import STRUCTURE
from lnmt.optimization.compressions.distil import Distil, narrow
from lnmt.optimization.compressions.drop_layers import DropLayers
from lnmt.training.teacher import state_loss, watch
from tests.optimization.weights_kit import as_bundle, exported_logits, inputs_of, logits, workshop
from tests.tiny_bundle import tiny_bundle

LAYER = "encoder.encoder.layer"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("distil") / "bundle")


def distance(student: BaseModel, teacher: BaseModel, shop: Any) -> float:
    """Of the states behind the student's one block to those behind the teacher's last."""
    total = 0.0
    for batch in shop.calibration:
        inputs = inputs_of(batch)
        with torch.no_grad(), watch(student, {f"{LAYER}.0"}) as ours, watch(teacher, {f"{LAYER}.1"}) as theirs:
            student.eval()(inputs)
            teacher.eval()(inputs)
        total += float(state_loss(ours.states[f"{LAYER}.0"], theirs.states[f"{LAYER}.1"], inputs["attention_mask"]))
    return total


def test_a_student_comes_nearer_to_its_teacher_inside(bundle: Bundle, tmp_path: Path) -> None:
    shop, teacher = workshop(bundle, tmp_path, epochs=2), load_model(bundle)
    compression = Distil(layers=1)
    student = compression.compress(load_model(bundle), shop)
    answers = Distil(layers=1, hidden=False).compress(load_model(bundle), replace(shop, work=tmp_path / "answers"))
    assert len(find_blocks(student)[1]) == 1
    assert distance(student, teacher, shop) < 0.9 * distance(answers, teacher, shop)
    assert (compression.decided()["kept"], compression.decided()["share_removed"]) == ([0], 0.5)


def test_a_narrower_student_runs_on_every_engine(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    student = Distil(layers=1, width=16).compress(load_model(bundle), shop)
    assert [(one.count, one.width) for one in find_units(student)] == [(1, 16), (32, 1)]
    written = as_bundle(student, bundle, tmp_path / "bundle")
    expected = logits(student, shop.calibration)
    np.testing.assert_array_equal(logits(load_model(written), shop.calibration), expected)
    found = exported_logits(written, tmp_path / "onnx", shop.calibration)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    settings = written.manifest.model["config"]
    assert (settings["hidden_size"], settings["num_attention_heads"], settings["intermediate_size"]) == (16, 1, 32)


def test_a_narrow_student_starts_from_its_teachers_weights(bundle: Bundle, tmp_path: Path) -> None:
    words = "encoder.embeddings.word_embeddings.weight"
    wide = load_model(bundle)
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            if name.endswith("weight") and parameter.dim() == 2 and parameter.shape[1] == 32:
                parameter[:, 1::2] *= 0.01  # the states at odd places hang on hardly anything
    expected = wide.get_parameter(words).detach()[:, ::2].clone()
    student = narrow(wide, 16, workshop(bundle, tmp_path))
    assert torch.equal(student.get_parameter(words), expected)
    assert STRUCTURE not in student.config


def test_a_student_as_large_as_its_teacher_is_refused() -> None:
    with pytest.raises(LnmtError, match="as large as its teacher"):
        Distil(layers=None)


@pytest.mark.parametrize("width", [0, 8, 32, 48])
def test_a_width_that_does_not_fit_is_refused(bundle: Bundle, tmp_path: Path, width: int) -> None:
    with pytest.raises(LnmtError, match="cannot have this width") as caught:
        Distil(width=width).compress(load_model(bundle), workshop(bundle, tmp_path))
    assert caught.value.allowed == "a multiple of 16, the width of a head, below 32"


def test_what_was_changed_before_cannot_be_made_narrower(bundle: Bundle, tmp_path: Path) -> None:
    shop = workshop(bundle, tmp_path)
    model = DropLayers(1, fine_tune=False).compress(load_model(bundle), shop)
    with pytest.raises(LnmtError, match="cannot be made narrower") as caught:
        Distil(layers=None, width=16).compress(model, shop)
    assert caught.value.fix == "distil first in the recipe"


def test_a_model_without_sizes_cannot_be_made_narrower(bundle: Bundle, tmp_path: Path) -> None:
    model = BaseModel({"task": "text-classification", "labels": 3})
    with pytest.raises(LnmtError, match="cannot be made narrower") as caught:
        narrow(model, 16, workshop(bundle, tmp_path))
    assert caught.value.fix == "leave distil.width out"


def test_too_many_layers_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="cannot be the ones that stay") as caught:
        Distil(layers=2).compress(load_model(bundle), workshop(bundle, tmp_path))
    assert caught.value.where == "distil.layers"
