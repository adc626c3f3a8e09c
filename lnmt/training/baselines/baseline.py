"""What a baseline is. Plugins subclass one of these and register: `@BASELINES.register("name")`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lnmt.types import Task


class Baseline:
    """A simple predictor. Its constructor takes the task, the label set and a seed."""

    tasks: ClassVar[tuple[Task, ...]] = ("text-classification",)  # what it can do

    def __init__(self, task: Task, labels: Sequence[str], seed: int) -> None:
        self.task = task
        self.labels = list(labels)
        self.seed = seed


class TextBaseline(Baseline, ABC):
    """A predictor of labels from texts; of every task but text-generation.

    A label is what a cell of the column `label` holds, see `lnmt.data.labels`: a name, names as a JSON list, a number.
    """

    @abstractmethod
    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Learn from the training split."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> list[str]:
        """A label for each text."""


class TokenBaseline(Baseline, ABC):
    """A predictor of tokens, for text-generation."""

    tasks = ("text-generation",)

    @abstractmethod
    def fit(self, texts: Iterable[NDArray[np.int64]], vocabulary: int) -> None:
        """Learn from the token ids [T] of each training text, each below `vocabulary`."""

    @abstractmethod
    def score(self, text: NDArray[np.int64]) -> tuple[float, int]:
        """Of the tokens [T] of a text, each predicted from those before it: Σ −log p in nats, and how many were the
        likeliest one.
        """
