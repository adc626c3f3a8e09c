"""Can the window be told from the reference? The strongest single sign of drift.

A classifier two-sample test (Lopez-Paz & Oquab, ICLR 2017; Rabanser, Günnemann & Lipton, NeurIPS
2019): a classifier learns to tell the two apart, and its cross-validated area under the ROC curve
says how well anyone could: 0.5 not at all, 1 always. What comes more than once counts once, and
never stands in a training and a test fold: a repeated request would pass for drift.

Legend: N = rows of the window, M = rows of the reference, F = columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_ROWS = 50  # distinct ones on either side; below, the area under the curve is mostly noise
MAX_ROWS = 2000  # of a side, drawn by seed; as many as a reference profile holds
FOLDS = 5
DECIMALS = 3  # one text's scores differ by less from batch to batch


def text_auc(current: Sequence[str], reference: Sequence[str], seed: int) -> float | None:
    """The area for texts, by TF-IDF over words and punctuation; None with fewer than 50 distinct texts on a side."""
    ours, theirs = ([texts[index] for index in _sample(texts, seed)] for texts in map(_distinct, (current, reference)))
    if min(len(ours), len(theirs)) < MIN_ROWS:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=r"(?u)\w+|[^\w\s]",  # noqa: S106 - a pattern of words, no password
        sublinear_tf=True,
        dtype=np.float32,
    )
    return _area(vectorizer, [*ours, *theirs], len(ours), np.arange(len(ours) + len(theirs)), seed)


def column_auc(current: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]], seed: int) -> float | None:
    """The area for the columns [N, F] and [M, F] that the two share, for windows whose texts were not kept.

    Folds are by the columns that count (characters, tokens): equal for one text in whatever batch it
    ran. None with fewer than 50 distinct rows on a side.
    """
    ours, theirs = (rows[_sample(rows, seed)] for rows in map(_distinct_rows, (current, reference)))
    if min(len(ours), len(theirs)) < MIN_ROWS:
        return None
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([ours, theirs])
    counts = (rows == np.round(rows)).all(axis=0)
    groups = np.unique(rows[:, counts], axis=0, return_inverse=True)[1] if counts.any() else np.arange(len(rows))
    return _area(StandardScaler(), rows, len(ours), groups.ravel(), seed)


def _area(features: Any, rows: Any, ours: int, groups: NDArray[np.integer[Any]], seed: int) -> float | None:
    """Cross-validated area of logistic regression on `features` of `rows`, of which the first `ours` are the window's.

    A linear model: a stronger one learns single rows by heart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    if len(np.unique(groups)) < MIN_ROWS:
        return None
    sides = (np.arange(len(groups)) < ours).astype(int)
    classifier = make_pipeline(features, LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    margins = cross_val_predict(classifier, rows, sides, groups=groups, cv=folds, method="decision_function")
    return float(roc_auc_score(sides, margins))


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _distinct_rows(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    first = np.unique(np.round(rows, DECIMALS), axis=0, return_index=True)[1]
    return rows[np.sort(first)]


def _sample(rows: Sequence[Any] | NDArray[Any], seed: int) -> list[int]:
    """Places of at most MAX_ROWS rows, in order."""
    if len(rows) <= MAX_ROWS:
        return list(range(len(rows)))
    chosen = np.random.default_rng(seed).choice(len(rows), MAX_ROWS, replace=False)
    return [int(index) for index in np.sort(chosen)]
