"""What the model has to beat: simple classifiers by name, run on the same test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lnmt.errors import LnmtError
from lnmt.plugins.table import Table


class Baseline(Protocol):
    """A classifier of texts. Its constructor takes the label set and a seed."""

    def __init__(self, labels: Sequence[str], seed: int) -> None: ...

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Learn from the training split."""

    def predict(self, texts: Sequence[str]) -> list[str]:
        """A label of the set for each text."""


class Majority:
    """Always the most frequent label of the training split; of two, the one that the label set names first."""

    def __init__(self, labels: Sequence[str], seed: int) -> None:
        self._labels = list(labels)
        self._label = self._labels[0]

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        counts = Counter(labels)
        self._label = max(self._labels, key=lambda label: counts[label])

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [self._label] * len(texts)


class Tfidf:
    """TF-IDF over words and pairs of words, then logistic regression (scikit-learn)."""

    def __init__(self, labels: Sequence[str], seed: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode", dtype=np.float32
        )
        # Balanced: gates look at macro-F1, and a baseline that neglects rare labels is no opponent there.
        self._model = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        if len(set(labels)) < 2:
            raise LnmtError(
                "the training split holds one label only: the tfidf baseline has nothing to learn",
                where="data/processed/train",
                value=sorted(set(labels)),
                fix="add rows with other labels, or leave tfidf out of params.yaml: evaluate.baselines",
            )
        try:
            features = self._vectorizer.fit_transform(texts)
        except ValueError as error:  # scikit-learn: an empty vocabulary
            raise LnmtError(
                f"the tfidf baseline finds no word that two training texts share: {error}",
                where="data/processed/train",
                fix="add rows, or leave tfidf out of params.yaml: evaluate.baselines",
            ) from error
        self._model.fit(features, labels)

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [str(label) for label in self._model.predict(self._vectorizer.transform(texts))]


class Vader:
    """The VADER lexicon with its authors' thresholds, compound ±0.05 (Hutto & Gilbert, ICWSM 2014)."""

    LABELS = ("negative", "neutral", "positive")

    def __init__(self, labels: Sequence[str], seed: int) -> None:
        if sorted(labels) != sorted(self.LABELS):
            raise LnmtError(
                "the vader baseline knows sentiment alone",
                where="params.yaml: evaluate.baselines",
                value=", ".join(labels),
                allowed=", ".join(self.LABELS),
                fix="leave vader out of evaluate.baselines, and gates against it out of gate",
            )
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Nothing: a lexicon learns nothing."""

    def predict(self, texts: Sequence[str]) -> list[str]:
        compounds = [self._analyzer.polarity_scores(text)["compound"] for text in texts]
        return ["positive" if value >= 0.05 else "negative" if value <= -0.05 else "neutral" for value in compounds]


BASELINES: Table[type[Baseline]] = Table(
    "baseline",
    {
        "majority": "lnmt.training.baselines:Majority",
        "tfidf": "lnmt.training.baselines:Tfidf",
        "vader": "lnmt.training.baselines:Vader",
    },
)
