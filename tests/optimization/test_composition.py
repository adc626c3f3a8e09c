from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.optimization.composition import compare_compositions
from lnmt.runtime.predictor import Predictor
from lnmt.types import Output, Task
from tests.tiny_bundle import WORDS, tiny_bundle

ROWS = [[1] * (1 + at % 7) for at in range(50)]  # the length says which text it is like


class Engine:
    """Logits of each row from the row and the longest length of its batch; keeps the batches that it saw."""

    def __init__(self, logits: Callable[[int, int], Sequence[float]]) -> None:
        self.logits = logits
        self.batches: list[list[int]] = []

    def infer(self, rows: Sequence[Sequence[int]]) -> Output:
        lengths = [len(row) for row in rows]
        self.batches.append(lengths)
        found = np.array([self.logits(length, max(lengths)) for length in lengths], dtype=np.float32)
        return Output(found, np.zeros((len(rows), 1), dtype=np.float32))


class TokenEngine:
    """Two logits a token, the position's; those of padding are noise."""

    def __init__(self, company: float) -> None:
        self.company = company

    def infer(self, rows: Sequence[Sequence[int]]) -> Output:
        width = max(map(len, rows)) + 3
        logits: NDArray[np.float32] = np.full((len(rows), width, 2), 1e9 * len(rows), dtype=np.float32)
        for at, row in enumerate(rows):
            logits[at, : len(row), 0] = 0.0
            logits[at, : len(row), 1] = np.arange(len(row)) - 2.5 + self.company * (len(rows) > 1)
        return Output(logits, np.zeros((len(rows), 1), dtype=np.float32))


def test_an_engine_that_looks_at_each_row_alone_changes_nothing() -> None:
    found = compare_compositions(Engine(lambda own, _: [own, 3]), ROWS, "text-classification", confidence=0.95)
    assert (found.texts, found.changed, found.share, found.max_difference) == (50, 0, 0.0, 0.0)
    assert found.share_upper == pytest.approx(1 - 0.05 ** (1 / 50))
    assert json.loads(json.dumps(found.as_json())) == found.as_json()


def test_company_that_turns_answers_is_counted() -> None:
    # a row of length 3 leads by 0.5, and loses 0.25 for every token that its batch is longer by
    engine = Engine(lambda own, longest: [0.5 if own == 3 else 9.0, 0.25 * (longest - own)])
    found = compare_compositions(engine, ROWS, "text-classification", confidence=0.95, batch_size=50)
    assert found.changed == sum(len(row) == 3 for row in ROWS) == 7
    assert found.share == pytest.approx(7 / 50)
    assert found.share_upper > 0.14
    assert found.max_difference == pytest.approx(0.25 * 6)


def test_every_text_is_answered_alone_and_in_every_batching() -> None:
    engine = Engine(lambda own, _: [own])
    compare_compositions(engine, ROWS, "text-regression", confidence=0.9, batch_size=16, batchings=3)
    alone = [lengths[0] for lengths in engine.batches if len(lengths) == 1]
    assert len(alone) >= 50
    seen = sorted(length for lengths in engine.batches for length in lengths)
    assert seen == sorted([len(row) for row in ROWS] * 4)
    full = [lengths for lengths in engine.batches if len(lengths) == 16]
    assert len(full) == 3
    assert all(len(set(lengths)) > 1 for lengths in full)  # lengths are mixed


def test_the_seed_decides_the_company() -> None:
    batches = []
    for seed in (1, 1, 2):
        engine = Engine(lambda own, _: [own])
        compare_compositions(engine, ROWS, "text-regression", confidence=0.9, seed=seed)
        batches.append(engine.batches)
    assert batches[0] == batches[1] != batches[2]


def test_several_labels_are_decided_at_a_score_of_a_half() -> None:
    engine = Engine(lambda own, longest: [0.1 * (longest == own) - 0.05, 5.0])
    found = compare_compositions(engine, [[1], [1, 1]], "multi-label-classification", confidence=0.95)
    assert found.changed == 1
    assert found.max_difference == pytest.approx(0.1)


def test_numbers_move_in_units_of_the_spread() -> None:
    engine = Engine(lambda own, longest: [float(longest - own)])
    rows = [[1], [1, 1], [1, 1, 1, 1, 1]]
    found = compare_compositions(engine, rows, "text-regression", confidence=0.95, spread=10)
    assert found.changed is None
    assert found.share == pytest.approx((0.4 + 0.3 + 0) / 3)
    assert found.share < found.share_upper <= 1
    assert found.max_difference == 4


@pytest.mark.parametrize("task", ["token-classification", "text-generation"])
def test_a_text_changes_where_any_of_its_tokens_does_and_padding_is_not_looked_at(task: Task) -> None:
    same = compare_compositions(TokenEngine(0.0), ROWS, task, confidence=0.95)
    assert (same.changed, same.max_difference) == (0, 0)
    found = compare_compositions(TokenEngine(1.0), ROWS, task, confidence=0.95)
    # the third token is the one that turns: texts of fewer tokens have none
    assert found.changed == sum(len(row) >= 3 for row in ROWS)
    assert found.max_difference == 1


def test_one_text_alone_is_its_own_company() -> None:
    found = compare_compositions(Engine(lambda own, _: [own]), [[1, 2]], "text-classification", confidence=0.95)
    assert (found.texts, found.changed) == (1, 0)
    assert found.share_upper == pytest.approx(0.95)


def test_nothing_to_answer_is_refused() -> None:
    with pytest.raises(LnmtError, match="nothing to answer"):
        compare_compositions(Engine(lambda own, _: [own]), [], "text-classification", confidence=0.95)


def test_a_real_engine_in_floats_keeps_its_answers(tmp_path: Path) -> None:
    predictor = Predictor.open(tiny_bundle(tmp_path / "bundle"), threads=1)
    rng = np.random.default_rng(2)
    rows = predictor.encode([" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(20)])
    found = compare_compositions(predictor, rows, predictor.task, confidence=0.95, batch_size=8)
    predictor.close()
    assert (found.texts, found.changed) == (20, 0)
    assert found.max_difference < 1e-4
