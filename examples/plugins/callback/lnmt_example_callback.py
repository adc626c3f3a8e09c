"""A callback: ends a run once a metric of the validation rows is good enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lnmt.core import Callback
from lnmt.errors import UnknownName
from lnmt.plugins import register_callback

if TYPE_CHECKING:
    from lnmt.training.callbacks.callback import Run


@register_callback("stop-at-target")
class StopAtTarget(Callback):
    """`{name: stop-at-target, metric: macro_f1, at_least: 0.9}` in `params.yaml: train.callbacks`."""

    def __init__(self, metric: str, at_least: float) -> None:
        self.metric = metric
        self.at_least = at_least

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        if self.metric not in metrics:
            raise UnknownName("metric", self.metric, metrics, where="train.callbacks: stop-at-target")
        if metrics[self.metric] >= self.at_least:
            run.stop(f"{self.metric} reached {self.at_least:g}")
