from __future__ import annotations

import numpy as np
import pytest

from lnmt.runtime.predictor import Predictor


def test_predictions_come_in_the_order_of_the_texts(predictor: Predictor) -> None:
    texts = ["good " * length for length in (30, 1, 12, 3, 60, 2)]
    together = predictor.predict(texts, batch_size=2)
    alone = [predictor.predict([text])[0] for text in texts]
    assert [entry.tokens for entry in together] == [32, 3, 14, 5, 62, 4]
    for one, other in zip(together, alone, strict=True):
        assert (one.label, one.tokens) == (other.label, other.tokens)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        np.testing.assert_allclose(one.pooled, other.pooled, atol=1e-5)


def test_scores_are_calibrated_and_sum_to_one(predictor: Predictor) -> None:
    logits = np.array([[1.0, 2.0, 0.0], [1000.0, 0.0, -1000.0]], dtype=np.float32)
    expected = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = predictor.scores(logits)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found[1], [1, 0, 0])
    prediction = predictor.predict(["a good film"])[0]
    assert sum(prediction.scores.values()) == pytest.approx(1)
    assert prediction.label == max(prediction.scores, key=lambda name: prediction.scores[name])


def test_batches_are_padded_as_the_bundle_says(predictor: Predictor) -> None:
    batch = predictor.pad([[1] * 9, [1]])
    assert batch.input_ids.shape == (2, 16)
    assert batch.attention_mask.sum(axis=1).tolist() == [9, 1]


def test_no_texts_give_no_answers(predictor: Predictor) -> None:
    output, lengths = predictor.outputs([])
    assert (output.logits.shape, len(lengths), predictor.predict([])) == ((0, 3), 0, [])
