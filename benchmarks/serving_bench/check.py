"""Before a server is timed: it answers as the model does, whatever else it is asked at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks.serving_bench.hosting import Hosted
from benchmarks.serving_bench.peers import Answer
from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.predictor import Predictor

CHECKED = 200  # texts
AT_ONCE = 16  # so that they share batches
# Largest difference of a score. An engine's sums depend on the batch's shape in the last digits, and what is rounded
# to 8 bits or to bf16 may round the other way for it; fp32 is fp32.
EXACT, ROUNDED = 0.001, 0.02


def expect_answers(bundle: Bundle, texts: Sequence[str], threads: int) -> list[Answer]:
    """What LNMT's own engine answers, text by text."""
    predictor = Predictor.open(bundle, threads=threads)
    try:
        found = [predictor.predict([text])[0] for text in texts]
    finally:
        predictor.close()
    return [(one.label, one.scores) for one in found]


def tolerance(bundle: Bundle) -> float:
    """Of the scores of `bundle`."""
    manifest = bundle.manifest
    return EXACT if manifest.precision == "fp32" and not manifest.compressions else ROUNDED


def check_answers(server: Hosted, texts: Sequence[str], expected: Sequence[Answer], allowed: float) -> float:
    """The largest difference of a score from those `expected`.

    Raises LnmtError where one is larger than `allowed`, or a label is another though no tie was that close.
    """
    with httpx.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda text: server.ask(client, text), texts))
    differences = [compare(given, wanted, allowed) for given, wanted in zip(answers, expected, strict=True)]
    wrong = [place for place, difference in enumerate(differences) if difference is None]
    if wrong:
        place = wrong[0]
        raise LnmtError(
            f"{len(wrong)} of {len(texts)} answers are not the model's",
            where=server.url,
            value=answers[place],
            allowed=f"{expected[place]}, each score within {allowed}",
            fix="a server that answers something else is not worth timing: mend it",
        )
    return max(one for one in differences if one is not None)


def compare(given: Answer, wanted: Answer, allowed: float) -> float | None:
    """The largest difference of a score; None where the two answers are not the same within `allowed`."""
    (label, scores), (wanted_label, wanted_scores) = given, wanted
    if scores.keys() != wanted_scores.keys():
        return None
    difference = max(abs(scores[name] - wanted_scores[name]) for name in wanted_scores)
    tied = wanted_scores[wanted_label] - wanted_scores.get(label, 0.0) <= 2 * allowed
    return difference if difference <= allowed and (label == wanted_label or tied) else None
