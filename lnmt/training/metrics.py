"""Classification metrics in numpy, exact, and written over counts so that a bootstrap can use them too.

Legend: N = rows, C = classes, `...` = any leading dimensions (bootstrap samples).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnmt.errors import UnknownName

RELIABILITY_BINS = 15  # as in Guo et al. 2017


def classification_metrics(
    labels: Sequence[Hashable], predicted: Sequence[Hashable], classes: Sequence[Hashable]
) -> dict[str, Any]:
    """Metrics of `predicted` against `labels`, both members of `classes`, row by row.

    Returns {"rows", "accuracy", "macro_f1", "per_class": {class: {"precision", "recall", "f1",
    "support"}}, "confusion": C lists of C counts, actual by predicted}. Without rows, accuracy and
    macro-F1 are 0. Raises UnknownName for a value outside `classes`.
    """
    return confusion_metrics(
        confusion_matrix(encode(labels, classes), encode(predicted, classes), len(classes)), classes
    )


def confusion_metrics(confusion: NDArray[np.int64], classes: Sequence[Hashable]) -> dict[str, Any]:
    """The same from a confusion matrix [C, C], actual by predicted."""
    hits, actual, guessed = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = class_rates(hits, actual, guessed)
    return {
        "rows": int(confusion.sum()),
        "accuracy": float(accuracy(hits, actual)),
        "macro_f1": float(macro_f1(hits, actual, guessed)),
        "per_class": {
            str(name): {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(actual[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def encode(values: Sequence[Hashable], classes: Sequence[Hashable], *, where: object = "metrics") -> NDArray[np.int64]:
    """Each value's place in `classes`, [N]. Raises UnknownName for a value outside of it, found at `where`."""
    places = {name: index for index, name in enumerate(classes)}
    try:
        return np.array([places[value] for value in values], dtype=np.int64)
    except KeyError as error:
        raise UnknownName("label", str(error.args[0]), map(str, classes), where=where) from error


def confusion_matrix(actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Rows by (actual, predicted), [C, C], from places in the class list, both [N]."""
    counts = np.bincount(actual * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def accuracy(hits: ArrayLike, actual: ArrayLike) -> NDArray[np.float64]:
    """Share of rows that are right [...], from rows right and rows per actual class, both [..., C]."""
    return _divide(np.sum(hits, axis=-1), np.sum(actual, axis=-1))


def class_rates(
    hits: ArrayLike, actual: ArrayLike, guessed: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall, F1, each [..., C], from rows right, per actual and per predicted class; 0 where undefined."""
    return (
        _divide(hits, guessed),
        _divide(hits, actual),
        _divide(2 * np.asarray(hits), np.asarray(actual) + np.asarray(guessed)),
    )


def macro_f1(hits: ArrayLike, actual: ArrayLike, guessed: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 [...] over the classes that occur in the rows or among the predictions.

    A class with neither has no F1: counting it as 0 would punish a slice for what it does not hold.
    """
    occurs = (np.asarray(actual) + np.asarray(guessed)) > 0
    f1 = class_rates(hits, actual, guessed)[2]
    return _divide(f1.sum(axis=-1), occurs.sum(axis=-1))


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence lies in (low, high]."""

    low: float
    high: float
    rows: int
    confidence: float  # mean; 0 without rows
    accuracy: float  # 0 without rows


def reliability_bins(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.int64], bins: int = RELIABILITY_BINS
) -> list[ReliabilityBin]:
    """Confidence against accuracy in `bins` of equal width; scores [N, C] sum to 1, labels [N] are class places."""
    confidence = scores.max(axis=1).astype(np.float64)
    right = scores.argmax(axis=1) == labels
    places = confidence_bin(confidence, bins)
    rows = np.bincount(places, minlength=bins)
    mean_confidence = _divide(np.bincount(places, weights=confidence, minlength=bins), rows)
    mean_right = _divide(np.bincount(places, weights=right, minlength=bins), rows)
    return [
        ReliabilityBin(index / bins, (index + 1) / bins, int(rows[index]), float(mean_confidence[index]), float(share))
        for index, share in enumerate(mean_right)
    ]


def expected_calibration_error(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.int64], bins: int = RELIABILITY_BINS
) -> float:
    """ECE of Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3.

    The mean of |accuracy − confidence| over the bins, weighted by their rows; 0 without rows.
    """
    found = reliability_bins(scores, labels, bins) if len(scores) else []
    return sum(entry.rows * abs(entry.accuracy - entry.confidence) for entry in found) / max(len(scores), 1)


def confidence_bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin (low, high] of each confidence; rounding may leave one a hair outside 0…1."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Quotient, 0 where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), np.asarray(denominator, np.float64))
    quotient: NDArray[np.float64] = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0)
    return quotient
