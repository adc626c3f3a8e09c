"""A sentiment lexicon."""

from __future__ import annotations

from collections.abc import Sequence

from lnmt.errors import LnmtError
from lnmt.training.baselines.baseline import TextBaseline
from lnmt.types import Task


class Vader(TextBaseline):
    """The VADER lexicon with its authors' thresholds, compound ±0.05 (Hutto & Gilbert, ICWSM 2014)."""

    LABELS = ("negative", "neutral", "positive")
    tasks = ("text-classification",)

    def __init__(self, task: Task, labels: Sequence[str], seed: int) -> None:
        super().__init__(task, labels, seed)
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
