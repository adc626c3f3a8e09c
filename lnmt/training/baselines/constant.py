"""Baselines that look at no word, or at each alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from lnmt.data.labels import join_names, parse_number, split_labels, split_tags, split_words
from lnmt.training.baselines.baseline import TextBaseline


class Majority(TextBaseline):
    """Always the most frequent label of the training split; of two, the one that the label set names first."""

    tasks = ("text-classification",)
    _label = ""

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        counts = Counter(labels)
        self._label = max(self.labels, key=lambda label: counts[label])

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [self._label] * len(texts)


class Prior(TextBaseline):
    """Always the labels that at least half of the training rows have; where none is, the most frequent one."""

    tasks = ("multi-label-classification",)
    _cell = "[]"

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        counts = Counter(label for cell in labels for label in set(split_labels(cell)))
        common = [label for label in self.labels if 2 * counts[label] >= max(len(labels), 1)]
        self._cell = join_names(common or [max(self.labels, key=lambda label: counts[label])])

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [self._cell] * len(texts)


class Mean(TextBaseline):
    """Always the mean of the training split: its r2 is about 0."""

    tasks = ("text-regression",)
    _mean = 0.0

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        self._mean = sum(map(parse_number, labels)) / max(len(labels), 1)

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [repr(self._mean)] * len(texts)


class FrequentTag(TextBaseline):
    """The most frequent tag of each word in the training split; for a new word, that of all words.

    Of two, the one that the label set names first.
    """

    tasks = ("token-classification",)

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text, cell in zip(texts, labels, strict=True):
            for word, tag in zip(split_words(text), split_tags(cell), strict=True):
                counts[word][tag] += 1
        self._tags = {word: self._most(found) for word, found in counts.items()}
        self._other = self._most(sum(counts.values(), Counter()))

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [join_names([self._tags.get(word, self._other) for word in split_words(text)]) for text in texts]

    def _most(self, counts: Counter[str]) -> str:
        return max(self.labels, key=lambda tag: counts[tag])
