"""Metrics of tags: entities found, by span and type.

Legend: W = words of all rows one after the other, N = rows, E = entity types, Q = statistics, M = metrics,
`...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.training.metrics.base import TaskMetrics, Values, divide
from lnmt.training.metrics.classification import class_rates, macro_f1
from lnmt.training.metrics.names import OUTSIDE, entity_type, label_metric_names, scored_labels

NO_TAG = -1  # the place of the tag of a word for which the model gave none: outside of every entity, and wrong

_OUTSIDE, _BEGINS, _INSIDE, _ENDS, _SINGLE = range(5)
_KINDS = {"B-": _BEGINS, "I-": _INSIDE, "E-": _ENDS, "S-": _SINGLE}


@dataclass(frozen=True)
class Spans:
    """Entities, in the order of the words."""

    starts: NDArray[np.int64]  # place of the first word
    ends: NDArray[np.int64]  # place of the last one
    types: NDArray[np.int64]  # place in `entity types`


class TagMetrics(TaskMetrics):
    """micro_f1, micro_precision, micro_recall, macro_f1, token_accuracy, and precision, recall, F1 of each type.

    An entity is right where its first word, its last word and its type are. Rows are statistics already: see `rows`.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.scored = scored_labels("token-classification", tags)
        places = {name: place for place, name in enumerate(self.scored)}
        # One more at the end: NO_TAG is found there, as the last place.
        self._kinds = np.array([*(_kind(tag) for tag in tags), _OUTSIDE], dtype=np.int64)
        self._types = np.array([*(places.get(entity_type(tag), -1) for tag in tags), -1], dtype=np.int64)
        self.width = self.size = 3 * len(self.scored) + 2
        whole = ("micro_f1", "micro_precision", "micro_recall", "macro_f1", "token_accuracy")
        self.names = (*whole, *label_metric_names(self.scored))

    def spans(self, tags: NDArray[np.int64], first: NDArray[np.bool_]) -> Spans:
        """The entities of `tags` [W], places in the set; `first` [W] marks the first word of each row.

        As the CoNLL-2000 script `conlleval` and seqeval's default mode read them, which forgive a wrong prefix: `I-X`
        begins an entity where none of type X is open, `B-X` always does, and one ends where the next begins or at `O`.
        `E-` ends an entity and `S-` is one of a single word; so is a tag without a prefix, other than `O`.
        """
        kinds, types = self._kinds[tags], self._types[tags]
        before = np.where(first, _OUTSIDE, np.roll(kinds, 1))
        inside = kinds != _OUTSIDE
        starts = inside & (
            np.isin(kinds, (_BEGINS, _SINGLE))
            | np.isin(before, (_OUTSIDE, _ENDS, _SINGLE))
            | (types != np.roll(types, 1))
        )
        # An entity goes on to the next word only where that word is inside, of the same row, and begins none.
        goes_on = inside & ~starts
        ends = inside & ~np.append(goes_on, False)[1:]
        places = np.flatnonzero(starts)
        return Spans(places, np.flatnonzero(ends), types[places])

    def rows(
        self, actual: NDArray[np.int64], predicted: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Rows [N, 3E + 2]: right, actual and predicted entities of each type, right words, words.

        `actual` and `predicted` [W] are places of tags, or NO_TAG; `lengths` [N] are the words of each row.
        """
        count, width = len(lengths), len(self.scored)
        owner = np.repeat(np.arange(count), lengths)
        first = np.zeros(len(actual), dtype=np.bool_)
        first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        asked, found = self.spans(actual, first), self.spans(predicted, first)

        end_at, type_at = np.full(len(actual), -1), np.full(len(actual), -1)
        end_at[asked.starts], type_at[asked.starts] = asked.ends, asked.types
        right = (end_at[found.starts] == found.ends) & (type_at[found.starts] == found.types)

        def tally(spans: Spans, chosen: NDArray[np.bool_] | slice) -> NDArray[np.int64]:
            cells = owner[spans.starts[chosen]] * width + spans.types[chosen]
            return np.bincount(cells, minlength=count * width).reshape(count, width)

        words = np.bincount(owner, weights=(actual == predicted), minlength=count)
        every = slice(None)
        return np.column_stack([tally(found, right), tally(asked, every), tally(found, every), words, lengths]).astype(
            np.float64
        )

    def statistics(self, rows: Values) -> NDArray[np.float64]:
        return np.asarray(rows, dtype=np.float64)

    def metrics(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, actual, guessed = np.split(sums[..., :-2], 3, axis=-1)
        right, words = sums[..., -2], sums[..., -1]
        all_hits, all_actual, all_guessed = hits.sum(axis=-1), actual.sum(axis=-1), guessed.sum(axis=-1)
        whole = [
            divide(2 * all_hits, all_actual + all_guessed),
            divide(all_hits, all_guessed),
            divide(all_hits, all_actual),
            macro_f1(hits, actual, guessed),
            divide(right, words),
        ]
        return np.concatenate([np.stack(whole, axis=-1), *class_rates(hits, actual, guessed)], axis=-1)


def _kind(tag: str) -> int:
    return _OUTSIDE if tag == OUTSIDE else _KINDS.get(tag[:2], _SINGLE)
