from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lnmt.bundles import Bundle
from lnmt.models import load_model
from lnmt.optimization.workshop import Workshop
from lnmt.progress import Progress
from lnmt.training.teacher import answer_rows
from tests.optimization.weights_kit import logits, workshop
from tests.tiny_bundle import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("workshop") / "bundle")


@pytest.fixture
def shop(bundle: Bundle, tmp_path: Path) -> Workshop:
    return workshop(bundle, tmp_path)


def test_labelled_rows_are_those_of_the_calibration(shop: Workshop) -> None:
    assert [len(batch.input_ids) for batch in shop.calibration] == [16] * 4
    for batch, labelled in zip(shop.calibration, shop.labelled, strict=True):
        np.testing.assert_array_equal(labelled.input_ids.numpy(), batch.input_ids)
        np.testing.assert_array_equal(labelled.attention_mask.numpy(), batch.attention_mask)
    places = [int(name.removeprefix("train-")) for batch in shop.labelled for name in batch.ids]
    labels = torch.cat([batch.labels for batch in shop.labelled]).tolist()
    assert labels == shop.data.train.labels[places].tolist()
    assert len(set(places)) == 64


def test_the_teacher_answers_once_for_all_compressions(shop: Workshop, tmp_path: Path) -> None:
    expected = answer_rows(shop.bundle, shop.data.train, shop.tokenizer, Progress(show=False)).logits
    np.testing.assert_array_equal(shop.answers.logits, expected)
    (kept,) = shop.shared.iterdir()
    kept.write_bytes((expected + 1).tobytes())  # what is read again is what stands there
    again = replace(shop, work=tmp_path / "other")
    np.testing.assert_array_equal(again.answers.logits, expected + 1)
    other = replace(shop, bundle=tiny_bundle(tmp_path / "bundle", seed=5))
    assert not np.allclose(other.answers.logits, expected + 1)
    assert len(list(shop.shared.iterdir())) == 2


def test_the_same_call_ends_with_the_same_weights(bundle: Bundle, shop: Workshop, tmp_path: Path) -> None:
    one = shop.fine_tune(load_model(bundle))
    again = shop.fine_tune(load_model(bundle))  # from the checkpoints of the first
    afresh = replace(shop, work=tmp_path / "afresh").fine_tune(load_model(bundle))
    expected = logits(one, shop.calibration)
    np.testing.assert_array_equal(logits(again, shop.calibration), expected)
    np.testing.assert_array_equal(logits(afresh, shop.calibration), expected)


def test_the_teacher_makes_a_difference(bundle: Bundle, shop: Workshop) -> None:
    taught = shop.fine_tune(load_model(bundle), name="taught")
    alone = shop.fine_tune(load_model(bundle), teacher=False, name="alone")
    assert not np.allclose(logits(taught, shop.calibration), logits(alone, shop.calibration), atol=1e-3)


def test_labels_and_tokenizer_stay_those_of_the_bundle(bundle: Bundle, shop: Workshop) -> None:
    shop.fine_tune(load_model(bundle))
    start = Bundle.open(shop.work / "fine-tune/start")
    kept = ("task", "labels", "processors", "max_tokens", "pad_multiple", "temperature")
    assert [getattr(start.manifest, name) for name in kept] == [getattr(bundle.manifest, name) for name in kept]
    assert start.file("tokenizer.json").read_bytes() == bundle.file("tokenizer.json").read_bytes()
    assert start.manifest.parent == bundle.digest


def test_parameters_of_the_training_can_be_changed(bundle: Bundle, shop: Workshop) -> None:
    shop.fine_tune(load_model(bundle), max_steps=3)
    steps = [path.name for path in (shop.work / "fine-tune/run/checkpoints").iterdir()]
    assert steps == ["step-00000003"]
