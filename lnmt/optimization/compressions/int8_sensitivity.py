"""Which groups stay in floats: those whose rounding moves the logits most, until the whole model is near enough.

Legend: B = rows, T = tokens, C = outputs of a row or token, U = rows or tokens that have logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.optimization.compressions.int8_products import Group
from lnmt.optimization.compressions.int8_qdq import switch
from lnmt.progress import Progress
from lnmt.types import Batch

ROWS, BATCHES = 64, 8  # that distances are measured on


@dataclass(frozen=True)
class Distance:
    """How far logits moved from those of the float model."""

    moved: float  # ‖change‖ / ‖logits‖, over all rows
    divergence: float  # mean KL(float ‖ quantised) of softmax, in nats; 0 where there is one output
    flips: float  # share whose largest output is another one

    def as_json(self) -> dict[str, float]:
        """Rounded: the last digits are of no use to a reader."""
        return {name: float(f"{value:.4g}") for name, value in vars(self).items()}


@dataclass(frozen=True)
class Choice:
    """The groups that stay in floats, and why."""

    kept: tuple[str, ...]  # the most sensitive first
    distance: Distance  # of the model with these in floats
    alone: dict[str, float]  # `moved` of each group where it is the only one quantised; empty where nobody asked

    def as_json(self) -> dict[str, Any]:
        """For a bundle's manifest."""
        alone = {name: float(f"{value:.4g}") for name, value in self.alone.items()}
        return {"kept_float": list(self.kept), "distance": self.distance.as_json(), "alone": alone}


class Sensitivity:
    """Distances of any choice of groups, on a few rows of the calibration batches. `graph` is of `with_switches`."""

    def __init__(self, graph: Any, groups: Sequence[Group], batches: Sequence[Batch]) -> None:
        from lnmt.optimization.backends.onnxruntime_int8 import GraphRun

        self._run = GraphRun(graph)
        self._groups = groups
        self._batches = few_rows(batches)
        self._exact = self._logits(frozenset())

    def distance(self, quantised: Iterable[str]) -> Distance:
        """Of the model in which these groups are quantised and no others."""
        return compare_logits(self._exact, self._logits(frozenset(quantised)))

    def _logits(self, quantised: frozenset[str]) -> NDArray[np.float32]:
        switches = {switch(group): np.array(group.name in quantised) for group in self._groups}
        return np.concatenate([_real(self._run(one, ["logits"], switches)[0], one) for one in self._batches])


def choose_kept(
    names: Sequence[str],
    distance: Callable[[Iterable[str]], Distance],
    *,
    max_distance: float,
    max_kept: int,
    progress: Progress,
) -> Choice:
    """Keep none where the whole model moves by at most `max_distance`; else the most sensitive, one after the other,
    until it does or `max_kept` are kept. Of groups that move it alike the first in the graph is kept.
    """
    found = distance(names)
    if found.moved <= max_distance or max_kept == 0:
        return Choice((), found, {})
    alone: dict[str, float] = {}
    with progress.bar("sensitivity", len(names), "groups") as bar:
        for name in names:
            alone[name] = distance([name]).moved
            bar.advance()
    ranked = sorted(names, key=lambda name: -alone[name])
    for count in range(1, min(max_kept, len(names)) + 1):
        kept = ranked[:count]
        found = distance(set(names) - set(kept))
        if found.moved <= max_distance:
            break
    return Choice(tuple(kept), found, alone)


def compare_logits(exact: NDArray[np.float32], other: NDArray[np.float32]) -> Distance:
    """Of logits [U, C]. What is not finite is infinitely far."""
    if not np.isfinite(other).all():
        return Distance(float("inf"), float("inf"), 1.0)
    size = float(np.linalg.norm(exact))
    moved = float(np.linalg.norm(other - exact)) / max(size, 1e-12)
    if exact.shape[1] == 1:
        return Distance(moved, 0.0, 0.0)
    p, q = _log_softmax(exact), _log_softmax(other)
    divergence = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    return Distance(moved, divergence, float((exact.argmax(axis=1) != other.argmax(axis=1)).mean()))


def few_rows(batches: Sequence[Batch]) -> list[Batch]:
    """At most ROWS rows, from at most BATCHES batches that lie evenly among all: short texts and long ones."""
    places = sorted({round(place) for place in np.linspace(0, len(batches) - 1, min(BATCHES, len(batches)))})
    each = max(1, ROWS // len(places))
    return [
        Batch(batches[place].input_ids[:each], batches[place].attention_mask[:each])
        for place in places
        if len(batches[place].input_ids)
    ]


def _real(logits: NDArray[np.float32], batch: Batch) -> NDArray[np.float32]:
    """[U, C] of [B, C], or of [B, T, C] without padding."""
    return logits if logits.ndim == 2 else logits[batch.attention_mask > 0]


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
