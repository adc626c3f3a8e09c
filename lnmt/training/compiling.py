"""Whether torch.compile pays off within the run: asked for, or measured on this machine and then kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from lnmt.errors import LnmtError
from lnmt.files import read_json, write_json
from lnmt.models.base import TrainingBatch
from lnmt.training.execution import Execution

LEAST_S = 120.0  # of eager steps in a run: below it, compiling alone would take longer than it could save
ROUNDS = 2


@dataclass(frozen=True)
class CompileChoice:
    """Eager or compiled, and the seconds that decided it."""

    compiled: bool
    why: str
    seconds: dict[str, float]  # of an eager step, a compiled step, and of compiling; empty where not measured


def choose_compile(
    wanted: Literal["auto"] | bool,
    build: Callable[[bool], Execution],
    batches: Sequence[TrainingBatch],
    steps: int,
    kept: Path,
) -> CompileChoice:
    """Whether to compile a run of `steps` steps. `auto` is measured on `batches` once and kept in the file `kept`.

    `build(compiled)` makes an Execution of a fresh model, which is thrown away. Raises LnmtError where the
    model cannot be compiled and `wanted` is true.
    """
    if wanted is False:
        return CompileChoice(False, "not asked for", {})
    if kept.is_file():
        return CompileChoice(**read_json(kept))
    with torch.random.fork_rng(devices=[]):
        choice = _measure(wanted, build, batches, steps)
    write_json(kept, asdict(choice))
    return choice


def _measure(
    wanted: Literal["auto"] | bool, build: Callable[[bool], Execution], batches: Sequence[TrainingBatch], steps: int
) -> CompileChoice:
    eager = 0.0
    if wanted == "auto":
        execution = build(False)
        _pass(execution, batches[:1])
        eager = _step_seconds(execution, batches)
        if eager * steps < LEAST_S:
            why = f"{steps} steps take about {eager * steps:.0f} s: compiling would take longer than it saves"
            return CompileChoice(False, why, {"eager": eager})
    start = time.perf_counter()
    try:
        execution = build(True)
        _pass(execution, batches)  # every width that it meets may be compiled anew
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if wanted != "auto":
            raise LnmtError(
                f"the model cannot be compiled: {first}",
                where="params.yaml: train.compile",
                allowed="false, or auto",
                fix="set train.compile: false; torch.compile needs a C++ compiler and a model that it can trace",
            ) from error
        return CompileChoice(False, f"the model cannot be compiled: {first}", {"eager": eager})
    if wanted != "auto":
        return CompileChoice(True, "asked for", {})
    compiling = time.perf_counter() - start
    compiled = _step_seconds(execution, batches)
    saved = (eager - compiled) * steps - compiling
    figures = {"eager": eager, "compiled": compiled, "compiling": compiling}
    told = f"a step {eager * 1e3:.0f} ms eager, {compiled * 1e3:.0f} ms compiled, {compiling:.0f} s to compile"
    return CompileChoice(
        saved > 0, f"{told}: over {steps} steps {abs(saved):.0f} s {'less' if saved > 0 else 'more'}", figures
    )


def _step_seconds(execution: Execution, batches: Sequence[TrainingBatch]) -> float:
    """The median over rounds of the mean step."""
    return statistics.median(_pass(execution, batches) / len(batches) for _ in range(ROUNDS))


def _pass(execution: Execution, batches: Sequence[TrainingBatch]) -> float:
    """Seconds of a step for each of `batches`, at rate 0."""
    start = time.perf_counter()
    for batch in batches:
        execution.backward(execution.loss(batch))
        execution.update(0.0)
    if execution.device.type == "cuda":
        torch.cuda.synchronize(execution.device)
    return time.perf_counter() - start
