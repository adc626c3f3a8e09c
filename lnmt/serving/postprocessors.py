"""Postprocessors: what a caller is told of the model's answer. Plugins of `params.yaml: serve.postprocessors`.

They run after the engine or the cache and before the event, which keeps what the model said beside what was told.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lnmt.params import Plugin
from lnmt.plugins.table import Table
from lnmt.text.processors import make
from lnmt.types import Prediction


@dataclass(frozen=True)
class Reply:
    """What the caller of one text is told. With `withheld`, a reason, neither label nor scores are."""

    label: str  # of the model, or a word of the plugin's own
    scores: dict[str, float]  # by label of the model; some may be left out
    withheld: str | None = None


class BasePostprocessor(ABC):
    """One step. Options of `params.yaml` are the constructor's keyword arguments.

    It runs in the worker's event loop, a text at a time: everything waits for it, so it must be quick.
    """

    @abstractmethod
    def process(self, reply: Reply, text: str) -> Reply:
        """The reply after this step: `dataclasses.replace(reply, …)`. What it raises fails this text alone."""


class Abstain(BasePostprocessor):
    """Withholds an answer whose label has a score below `below`; a label without a score has 0."""

    def __init__(self, below: float) -> None:
        if isinstance(below, bool) or not isinstance(below, int | float):
            raise TypeError(f"below is {below!r}; it must be a number in 0…1")
        if not 0 <= below <= 1:
            raise ValueError(f"below is {below!r}; allowed: 0…1")
        self.below = below

    def process(self, reply: Reply, text: str) -> Reply:
        if reply.scores.get(reply.label, 0.0) >= self.below:
            return reply
        return replace(reply, withheld=f"the score is below {self.below:g}")


class TopScores(BasePostprocessor):
    """Tells the `k` highest scores alone."""

    def __init__(self, k: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int):
            raise TypeError(f"k is {k!r}; it must be a whole number, at least 1")
        if k < 1:
            raise ValueError(f"k is {k!r}; allowed: at least 1")
        self.k = k

    def process(self, reply: Reply, text: str) -> Reply:
        kept = sorted(reply.scores, key=lambda label: reply.scores[label], reverse=True)[: self.k]
        return replace(reply, scores={label: score for label, score in reply.scores.items() if label in kept})


POSTPROCESSORS: Table[type[BasePostprocessor]] = Table(
    "postprocessor",
    {
        "abstain": "lnmt.serving.postprocessors:Abstain",
        "top_scores": "lnmt.serving.postprocessors:TopScores",
    },
)


class Postprocessors:
    """The steps in order, up to one that withholds the answer."""

    def __init__(self, plugins: Sequence[Plugin], *, where: str) -> None:
        self._steps: list[tuple[str, BasePostprocessor]] = []
        for number, plugin in enumerate(plugins):
            place = f"{where}.{number}"
            self._steps.append((plugin.name, make(POSTPROCESSORS.get(plugin.name, where=place), plugin, where=place)))

    def reply(self, prediction: Prediction, text: str) -> tuple[Reply | Exception, str | None]:
        """What the caller is told, or what a step raised; and the step that withheld the answer, or raised."""
        reply = Reply(prediction.label, dict(prediction.scores))  # a copy: the event keeps what the model said
        for name, step in self._steps:
            try:
                reply = _checked(step.process(reply, text), prediction)
            except Exception as error:  # a plugin may raise anything
                return error, name
            if reply.withheld is not None:
                return reply, name
        return reply, None


def open_postprocessors(plugins: Sequence[Plugin]) -> Postprocessors | None:
    """Those of `params.yaml`, None where it lists none. Raises LnmtError for an unknown name or option."""
    return Postprocessors(plugins, where="params.yaml: serve.postprocessors") if plugins else None


def _checked(reply: object, prediction: Prediction) -> Reply:
    """`reply`, if JSON and the callers can take it."""
    if not isinstance(reply, Reply):
        raise TypeError(f"process gave a {type(reply).__name__}, not a Reply")
    if reply.withheld is not None:
        _check_word("withheld", reply.withheld)
        return reply
    _check_word("label", reply.label)
    for label, score in reply.scores.items():
        if label not in prediction.scores:
            raise ValueError("a score of a label that the model does not have")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise ValueError(f"the score of {label!r} is no finite number")
    return reply


def _check_word(field: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field} must be a string that is not empty")
