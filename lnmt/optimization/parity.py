"""Does a candidate answer as the reference does?

Legend: N = rows, C = labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.candidate import Parity
from lnmt.training.metrics import confusion_matrix, confusion_metrics


def compare_answers(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], actual: NDArray[np.int64]
) -> Parity:
    """Parity of the candidate's logits with the reference's, both [N, C]; `actual` [N] are the labels' places."""
    expected, found = reference.argmax(axis=1), candidate.argmax(axis=1)
    f1 = _macro_f1(actual, found, candidate.shape[1])
    return Parity(
        rows=len(actual),
        flips=int((expected != found).sum()),
        macro_f1=f1,
        macro_f1_loss=_macro_f1(actual, expected, reference.shape[1]) - f1,
        max_logit_difference=float(np.abs(reference - candidate).max()),
    )


def _macro_f1(actual: NDArray[np.int64], predicted: NDArray[np.intp], classes: int) -> float:
    confusion = confusion_matrix(actual, predicted.astype(np.int64), classes)
    return float(confusion_metrics(confusion, range(classes))["macro_f1"])
