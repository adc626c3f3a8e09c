"""token-classification in the stage `evaluate`.

Legend: N = rows, W = words of all rows one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.labels import check_words, parse_labels
from lnmt.errors import LnmtError
from lnmt.runtime.predictor import Predictor
from lnmt.training.evaluation.task import Answers, LabelledEvaluation, ids_of, run_chunks
from lnmt.training.metrics.base import Values
from lnmt.training.metrics.tags import NO_TAG, TagMetrics
from lnmt.types import LABEL, TEXT

Tags = list[NDArray[np.int64]]  # of each row: a place in the tag set, or NO_TAG, for each word
Found = Answers[Tags, Tags]


class TagEvaluation(LabelledEvaluation[Tags, Tags]):
    """One tag a word."""

    task = "token-classification"
    slice_metric = "micro_f1"
    metrics: TagMetrics

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self._places = {tag: place for place, tag in enumerate(labels)}
        self.metrics = TagMetrics(labels)

    def answer(self, predictor: Predictor, table: pa.Table, where: object, advance: Callable[[int], None]) -> Found:
        texts = table[TEXT].to_pylist()
        actual = self._parse(table[LABEL].to_pylist(), table, where)
        tokens = np.empty(len(texts), dtype=np.int64)
        found: Tags = []

        def run(part: slice) -> None:
            answers = predictor.predict(texts[part])
            found.extend(self._encode(answer.tags) for answer in answers)
            tokens[part] = [answer.tokens for answer in answers]

        run_chunks(texts, run, advance)
        for name, asked, given in zip(ids_of(table), actual, found, strict=True):
            if len(asked) != len(given):
                raise LnmtError(
                    f"the bundle's processors make {len(given)} words of a row's {len(asked)}",
                    where=where,
                    value=f"row {name}",
                    fix="use text processors that keep words: params.yaml: process.processors",
                )
        return Answers(table, actual, found, tokens)

    def rows(self, answers: Found, temperature: float) -> Values:
        return self._rows(answers.actual, answers.found)

    def guessed_rows(self, test: Found, cells: Sequence[str], where: object) -> Values:
        return self._rows(test.actual, self._parse(cells, test.table, where))

    def predictions(self, answers: Found, temperature: float) -> pa.Table:
        """label and predicted, a list of tags each; null for a word that the tokenizer has no token for."""
        return pa.table({"label": self._named(answers.actual), "predicted": self._named(answers.found)})

    def _rows(self, actual: Tags, found: Tags) -> Values:
        lengths = np.array([len(tags) for tags in actual], dtype=np.int64)
        nothing = np.empty(0, dtype=np.int64)
        return self.metrics.rows(np.concatenate([nothing, *actual]), np.concatenate([nothing, *found]), lengths)

    def _parse(self, cells: Sequence[str | None], table: pa.Table, where: object) -> Tags:
        names = ids_of(table)
        found = parse_labels(cells, names, self.task, self._labels, where=where)
        assert isinstance(found, list), "tags are lists"
        check_words(found, table[TEXT].to_pylist(), names, where=where)
        return found

    def _encode(self, tags: Sequence[str | None]) -> NDArray[np.int64]:
        return np.array([NO_TAG if tag is None else self._places[tag] for tag in tags], dtype=np.int64)

    def _named(self, rows: Tags) -> pa.Array:
        names = [[None if place == NO_TAG else self._labels[place] for place in row] for row in rows]
        return pa.array(names, pa.list_(pa.string()))
