"""A point of the learning curve every few steps: loss, rates, time lost to input, FLOP/s."""

from __future__ import annotations

from typing import Any

from lnmt.training.callbacks.callback import Callback, Run, StepResult

CURVE_STEPS = 10  # optimiser steps a point


class RecordCurve(Callback):
    """Points go to `state.curve` and, as live metrics, to the progress file; rates are shown beside the bar."""

    def __init__(self, flops_per_token: float, peak_flops: float) -> None:
        """Model FLOPs of a training token, and the device's FLOP/s at its best."""
        self._mfu_per_rate = flops_per_token / peak_flops
        self._window: dict[str, float] = {}

    def after_step(self, run: Run, step: StepResult) -> None:
        window = self._window
        for name, value in (
            ("steps", 1.0),
            ("loss", step.loss * step.rows),
            ("rows", step.rows),
            ("tokens", step.tokens),
            ("seconds", step.seconds),
            ("waited_s", step.waited_s),
        ):
            window[name] = window.get(name, 0.0) + value
        if step.step % CURVE_STEPS and step.step != run.plan.steps:
            return
        seconds = max(window["seconds"], 1e-9)
        point = {
            "step": step.step,
            "epoch": step.step / run.plan.steps_per_epoch,
            "loss": window["loss"] / window["rows"],
            "lr": step.lr,
            "gradient_norm": step.gradient_norm,
            "samples_per_second": window["rows"] / seconds,
            "tokens_per_second": window["tokens"] / seconds,
            "input_share": window["waited_s"] / seconds,
            "mfu": window["tokens"] / seconds * self._mfu_per_rate,
        }
        run.state.curve.append(point)
        self._window = {}
        named = {f"train.{name}": value for name, value in point.items() if name != "step"}
        run.progress.write({"metrics": named, "step": step.step})

    def state_dict(self) -> dict[str, Any]:
        return {"window": self._window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._window = dict(state["window"])
