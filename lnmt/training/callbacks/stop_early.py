"""Ends a run whose metric no longer gets better (Prechelt, Early Stopping — But When?, 1998)."""

from __future__ import annotations

from lnmt.training.callbacks.callback import Callback, Run


class StopEarly(Callback):
    """Stops after `patience` evaluations without a better one; `state.stale` counts them."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def after_evaluation(self, run: Run, metrics: dict[str, float]) -> None:
        if run.state.stale >= self._patience:
            run.stop(f"{run.state.stale} evaluations without a better {run.options.metric}")
