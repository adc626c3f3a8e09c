"""The demo's classifier on the real texts: as they come, one or 32 a call, and many at once.

The texts are those of data/processed; where there is none, the stages up to `process` make it in a temporary project.
Weights are the pretrained encoder's with a fresh head: what the head answers takes no other time.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_bench.contenders import Contender, Infer, Workbench, open_contenders
from benchmarks.engine_bench.measure import Budget, Cell, measure_cell
from benchmarks.engine_bench.models import PAD_MULTIPLE, write_bundle
from benchmarks.trainers.common import Setting
from benchmarks.training import prepare
from lnmt.data.batches import Examples
from lnmt.models.base import BaseModel
from lnmt.optimization.backends import Source
from lnmt.optimization.candidate import Candidate
from lnmt.progress import Progress
from lnmt.runtime.capabilities import Capabilities
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import Batch

NAME, BATCH, MANY = "demo", 32, 256
CALIBRATION_ROWS, CALIBRATION_BATCH = 256, 16
SINGLE, AS_THEY_COME, AT_ONCE = "a text a call", f"{BATCH} texts a call", f"{MANY} texts at once"
SETTINGS: list[dict[str, Any]] = [  # of the likely winners
    {"group_rows": 4},
    {"group_rows": 4, "streams": 2},
    {"group_rows": 16, "streams": 2},
]


@dataclass(frozen=True)
class Texts:
    """The validation split as token ids."""

    examples: Examples
    tokenizer: Tokenizer

    def draw(self, count: int, rng: np.random.Generator, multiple: int = 1) -> Batch:
        """So many texts [B, T], padded to the longest of them, as they come."""
        return pad(self.examples, rng.choice(len(self.examples), count, replace=False), self.tokenizer, multiple)


def pad(examples: Examples, places: NDArray[np.int64], tokenizer: Tokenizer, multiple: int) -> Batch:
    """The rows at `places`, as one batch."""
    return tokenizer.pad([row.tolist() for row in examples.rows(places)], multiple)


def demo_bench(scratch: Path, machine: Capabilities, threads: int, progress: Progress) -> tuple[Workbench, Texts]:
    """The demo's classifier on the bench, and its texts."""
    setting = Setting(**prepare(scratch))
    bench = open_bench(setting, setting.model().eval(), scratch, machine, threads, progress)
    return bench, Texts(setting.data.validation, setting.data.tokenizer)


def open_bench(
    setting: Setting, model: BaseModel, scratch: Path, machine: Capabilities, threads: int, progress: Progress
) -> Workbench:
    """`model`, one of `setting`, on the bench, with calibration rows of the training split."""
    data = setting.data
    train = np.sort(np.random.default_rng(setting.seed).choice(len(data.train), CALIBRATION_ROWS, replace=False))
    by_length = train[np.argsort(data.train.lengths[train], kind="stable")]
    bundle = write_bundle(
        model,
        setting.options.model.name,
        data.labels,
        setting.options.max_tokens,
        Path(setting.encoder) / "tokenizer.json",
        scratch / "demo",
    )
    work = scratch / "demo.work"
    work.mkdir()
    calibration = [
        pad(data.train, by_length[start : start + CALIBRATION_BATCH], data.tokenizer, PAD_MULTIPLE)
        for start in range(0, CALIBRATION_ROWS, CALIBRATION_BATCH)
    ]
    return Workbench(Source(bundle, work, progress=progress), machine, lambda: calibration, progress, threads)


def measure_demo(
    bench: Workbench,
    texts: Texts,
    candidates: Sequence[Candidate],
    budget: Budget,
    rng: np.random.Generator,
    progress: Progress,
) -> list[Cell]:
    """A text a call, 32 texts a call, many texts at once."""
    cells = []
    with open_contenders(bench, candidates) as contenders:
        for what, rows, calls in ((SINGLE, 1, 16), (AS_THEY_COME, BATCH, 4), (AT_ONCE, MANY, 1)):
            batches = [texts.draw(rows, rng) for _ in range(calls)]
            cell = Cell(NAME, None, rows, 0, None, {}, [], what)
            used = sliced(contenders) if rows > BATCH else contenders
            cells.append(measure_cell(cell, used, batches, budget, rng, progress))
    return cells


def sliced(contenders: Mapping[str, Contender]) -> dict[str, Contender]:
    """Those that do not group rows themselves get many texts 32 at a time, in their order, padded to the longest."""
    return {
        name: one if one.least_rows > 1 else replace(one, infer=_in_slices(one.infer))
        for name, one in contenders.items()
    }


def _in_slices(infer: Infer) -> Infer:
    def run(batch: Batch) -> object:
        found = []
        for start in range(0, len(batch.input_ids), BATCH):
            ids, mask = (part[start : start + BATCH] for part in (batch.input_ids, batch.attention_mask))
            longest = int(mask.sum(axis=1).max())
            found.append(infer(Batch(np.ascontiguousarray(ids[:, :longest]), np.ascontiguousarray(mask[:, :longest]))))
        return found

    return run
