"""The learning-rate range test: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch

from lnmt.data.batches import batch_order
from lnmt.errors import LnmtError
from lnmt.files import write_bytes
from lnmt.params import TrainParams
from lnmt.progress import Progress
from lnmt.training.execution import Execution
from lnmt.training.feed import to_batch
from lnmt.training.precision import Precision
from lnmt.training.prepare import TrainingData, prepare_model

LOWEST, HIGHEST = 1e-7, 1.0
STEPS = 100
SMOOTHING = 0.9  # of the loss, a step
DIVERGED = 4.0  # × the lowest smoothed loss: the test ends


@dataclass(frozen=True)
class RatePoint:
    """One step of the test."""

    lr: float
    loss: float  # smoothed


@dataclass(frozen=True)
class Rates:
    """The finder's answer."""

    suggested: float  # where the smoothed loss falls fastest by the logarithm of the rate
    lowest_loss_at: float
    points: list[RatePoint]


def find_learning_rate(
    options: TrainParams, data: TrainingData, *, precision: Precision, device: torch.device, progress: Progress
) -> Rates:
    """Train a fresh model for up to 100 steps with a rate that grows from 1e-7 to 1, until the loss diverges.

    Raises LnmtError where the loss never falls: then no rate helps, and the data or the model is to blame.
    """
    torch.manual_seed(options.seed)
    execution = Execution(prepare_model(options, data), options, precision=precision, compiled=False, device=device)
    base = float(execution.optimizer.param_groups[0]["base_lr"])
    order = batch_order(data.train.lengths, options.batch_size, options.seed, 0)
    points: list[RatePoint] = []
    mean = 0.0
    with progress.bar("learning rates", STEPS, "steps") as bar:
        for step, places in enumerate(islice(cycle(order), STEPS)):
            lr = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            loss = execution.loss(to_batch(data.train, places, data.tokenizer))
            value = float(loss.detach())
            mean = SMOOTHING * mean + (1 - SMOOTHING) * value
            smooth = mean / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(smooth) or (points and smooth > DIVERGED * min(point.loss for point in points)):
                break
            points.append(RatePoint(lr, smooth))
            execution.backward(loss)
            execution.update(lr / base)
            bar.advance(lr=lr, loss=smooth)
    return suggest(points)


def suggest(points: list[RatePoint]) -> Rates:
    """The rate of the steepest fall before the lowest loss."""
    lowest = min(range(len(points)), key=lambda place: points[place].loss, default=0)
    if lowest < 2:
        raise LnmtError(
            "the loss falls at no learning rate",
            where="learning-rate finder",
            value=f"{len(points)} steps, lowest loss at step {lowest}",
            fix="look at the data and the model: labels at random, frozen weights, a broken training_step?",
        )
    falls = [points[place - 1].loss - points[place + 1].loss for place in range(1, lowest)]
    steepest = max(range(len(falls)), key=falls.__getitem__) + 1
    return Rates(points[steepest].lr, points[lowest].lr, points)


def draw(rates: Rates, path: Path) -> None:
    """The loss over the rate, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([point.lr for point in rates.points], [point.loss for point in rates.points], color="#4c72b0")
    axes.axvline(rates.suggested, color="#dd8452", linestyle="--", label=f"suggested: {rates.suggested:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    out = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(out, format="svg", metadata={"Date": None})
    write_bytes(path, out.getvalue())
