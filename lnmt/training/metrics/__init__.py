"""Metrics by task: names and directions, and the sums that both training and evaluation compute them from."""

from __future__ import annotations

from lnmt.training.metrics.names import (
    check_metric,
    default_metric,
    higher_is_better,
    metric_names,
    validation_names,
)

__all__ = ["check_metric", "default_metric", "higher_is_better", "metric_names", "validation_names"]
