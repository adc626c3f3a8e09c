"""Linear models on words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.data.labels import join_names, parse_labels
from lnmt.errors import LnmtError
from lnmt.training.baselines.baseline import TextBaseline
from lnmt.types import Task

WHERE = "data/processed/train"
FIX = "add rows, or leave tfidf out of params.yaml: evaluate.baselines"


class Tfidf(TextBaseline):
    """TF-IDF over words and pairs of words, then a linear model (scikit-learn).

    Logistic regression; for several labels one of each against the rest; ridge regression for numbers.
    """

    tasks = ("text-classification", "multi-label-classification", "text-regression")

    def __init__(self, task: Task, labels: Sequence[str], seed: int) -> None:
        super().__init__(task, labels, seed)
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode", dtype=np.float32
        )
        self._model = _regression(seed) if task == "text-regression" else _classifier(seed)
        self._models: dict[str, Any] = {}  # of labels that some training rows have and others do not
        self._always: set[str] = set()  # labels that all training rows have

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        if self.task == "text-classification" and len(set(labels)) < 2:
            raise LnmtError(
                "the training split holds one label only: the tfidf baseline has nothing to learn",
                where=WHERE,
                value=sorted(set(labels)),
                fix="add rows with other labels, or leave tfidf out of params.yaml: evaluate.baselines",
            )
        try:
            features = self._vectorizer.fit_transform(texts)
        except ValueError as error:  # scikit-learn: an empty vocabulary
            raise LnmtError(
                f"the tfidf baseline finds no word that two training texts share: {error}", where=WHERE, fix=FIX
            ) from error
        if self.task == "text-classification":
            self._model.fit(features, labels)
            return
        targets = parse_labels(labels, list(map(str, range(len(labels)))), self.task, self.labels, where=WHERE)
        assert isinstance(targets, np.ndarray), "only tags are lists"
        if self.task == "text-regression":
            self._model.fit(features, targets)
        else:
            self._fit_each(features, targets)

    def predict(self, texts: Sequence[str]) -> list[str]:
        features = self._vectorizer.transform(texts)
        if self.task == "text-classification":
            return [str(label) for label in self._model.predict(features)]
        if self.task == "text-regression":
            return [repr(float(value)) for value in self._model.predict(features)]
        found = {label: model.predict(features) for label, model in self._models.items()}
        found |= {label: np.ones(len(texts)) for label in self._always}
        chosen = [label for label in self.labels if label in found]
        return [join_names([label for label in chosen if found[label][row]]) for row in range(len(texts))]

    def _fit_each(self, features: Any, targets: NDArray[Any]) -> None:
        for label, column in zip(self.labels, targets.T, strict=True):
            if column.all():
                self._always.add(label)
            elif column.any():
                self._models[label] = _classifier(self.seed).fit(features, column > 0)


def _classifier(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    # Balanced: gates look at F1 of all labels, and a baseline that neglects rare ones is no opponent there.
    return LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)


def _regression(seed: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(random_state=seed)
