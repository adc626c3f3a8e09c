"""text-generation in the stage `evaluate`: how expected each text of a split is.

A text is read as in training: the token that ends a text, its own tokens, that token again; all but the first are
predicted. One longer than `max_tokens` is read in windows, each of which begins with the last token of the
one before, so that every token is predicted once and nothing is cut off.

Legend: N = texts, T = tokens of a text, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lnmt.runtime.predictor import Predictor
from lnmt.text.bulk import BulkEncoder
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.baselines import Baseline, TokenBaseline
from lnmt.training.evaluation.task import CHUNK_ROWS, Answers, TaskEvaluation, run_chunks
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.language import LanguageMetrics, score_tokens
from lnmt.types import TEXT

Found = Answers[NDArray[np.int64], NDArray[np.float64]]  # bytes [N]; Σ −log p, predicted tokens, right ones [N, 3]


class LanguageEvaluation(TaskEvaluation[NDArray[np.int64], NDArray[np.float64]]):
    """Texts that have no labels."""

    task = "text-generation"
    metrics = LanguageMetrics()
    slice_metric = "loss"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._encoder = BulkEncoder(tokenizer)

    def answer(self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]) -> Found:
        texts = table[TEXT].to_pylist()
        found = np.zeros((len(texts), 3))
        tokens = np.empty(len(texts), dtype=np.int64)

        def run(part: slice) -> None:
            rows = list(self._documents(texts[part]))
            tokens[part] = [len(row) for row in rows]
            windows = [(part.start + place, window) for place, row in enumerate(rows) for window in self._windows(row)]
            for places, batch, output in predictor.run_rows([window for _, window in windows]):
                scored = score_tokens(*map(torch.from_numpy, (output.logits, batch.input_ids, batch.attention_mask)))
                np.add.at(found, [windows[place][0] for place in places.tolist()], scored)

        run_chunks(texts, run, advance)
        return Answers(table, np.array([len(text.encode()) for text in texts], dtype=np.int64), found, tokens)

    def rows(self, answers: Found, temperature: float) -> Values:
        return _rows(answers, answers.found)

    def baseline_rows(self, baseline: Baseline, train: pa.Table, test: Found, where: object) -> Values:
        assert isinstance(baseline, TokenBaseline), "a TextBaseline is of other tasks"
        baseline.fit(self._documents(train[TEXT].to_pylist()), self._tokenizer.vocabulary)
        scored = [
            (nats, len(row), right)
            for row in self._documents(test.table[TEXT].to_pylist())
            for nats, right in [baseline.score(row)]
        ]
        return _rows(test, np.array(scored, dtype=np.float64).reshape(-1, 3))

    def predictions(self, answers: Found, temperature: float) -> pa.Table:
        """loss in nats a token, tokens that were predicted, bytes."""
        nats, tokens, _ = answers.found.T
        return pa.table(
            {
                "loss": pa.array(nats / np.maximum(tokens, 1)),
                "tokens": pa.array(tokens.astype(np.int64)),
                "bytes": pa.array(answers.actual),
            }
        )

    def _documents(self, texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
        """The tokens of each text, and the one that ends it."""
        for start in range(0, len(texts), CHUNK_ROWS):
            found = self._encoder.documents(pa.array(texts[start : start + CHUNK_ROWS], pa.string()))
            yield from np.split(found.values.astype(np.int64), np.cumsum(found.lengths)[:-1])

    def _windows(self, row: NDArray[np.int64]) -> Iterator[list[int]]:
        tokens = [self._tokenizer.end_id, *row.tolist()]
        step = max(self._tokenizer.max_tokens - 1, 1)
        for start in range(0, len(tokens) - 1, step):
            yield tokens[start : start + step + 1]


def _rows(answers: Found, scored: NDArray[np.float64]) -> NDArray[np.float64]:
    nats, tokens, right = scored.T
    return np.column_stack([nats, tokens, answers.actual, right])
