from __future__ import annotations

import numpy as np
import pytest

from lnmt.optimization.parity import compare_answers


def test_the_same_answers_have_no_flips() -> None:
    logits = np.array([[1, 0], [0, 1], [3, 2]], dtype=np.float32)
    found = compare_answers(logits, logits, np.array([0, 1, 0]))
    assert (found.rows, found.flips, found.flip_share, found.macro_f1_loss) == (3, 0, 0.0, 0.0)
    assert (found.macro_f1, found.max_logit_difference) == (1.0, 0.0)


def test_a_flip_is_counted_and_costs_f1() -> None:
    reference = np.array([[2, 0], [0, 2], [2, 0], [0, 2]], dtype=np.float32)
    candidate = reference.copy()
    candidate[0] = [0, 0.5]
    found = compare_answers(reference, candidate, np.array([0, 1, 0, 1]))
    assert (found.flips, found.flip_share, found.max_logit_difference) == (1, 0.25, 2.0)
    # one of two zeros is missed: F1 2/3 for label 0, 4/5 for label 1
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.macro_f1_loss == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)


def test_a_flip_to_the_right_label_is_a_negative_loss() -> None:
    reference = np.array([[2, 0], [2, 0]], dtype=np.float32)
    candidate = np.array([[2, 0], [0, 2]], dtype=np.float32)
    found = compare_answers(reference, candidate, np.array([0, 1]))
    assert found.flips == 1
    assert found.macro_f1_loss < 0
