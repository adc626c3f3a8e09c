"""Processors of whole tables: a stream of record batches in, a stream out. They run in `process` alone, not in serving.

Legend: N = rows of a batch.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pyarrow as pa

from lnmt.data.hash_spill import HashSpill
from lnmt.data.keys import text_hashes
from lnmt.data.labels import label_codes
from lnmt.data.tables import ROWS_PER_FILE, ShardWriter, read_batches
from lnmt.plugins.table import Table
from lnmt.types import ID, LABEL, TEXT, Task

Rows = Iterator[pa.RecordBatch]


@dataclass
class Bench:
    """What a table processor has beside the rows."""

    work: Path  # a directory of its own, empty, removed after the stage
    schema: pa.Schema  # of the batches, in and out
    task: Task
    labels: tuple[str, ...]
    belongs: Callable[[str], bool]  # may a row of this text stand here? Training-only steps ask before they add one
    report: dict[str, Any] = field(default_factory=dict)  # figures for reports/process/summary.json


class TableProcessor:
    """One step over a table. Options of `params.yaml` are the constructor's keyword arguments.

    Memory must not grow with the rows: what has to be kept goes to `bench.work`.
    """

    train_only: ClassVar[bool] = False  # True: runs after the split, on the training rows
    tasks: ClassVar[tuple[Task, ...]] = get_args(Task)  # those whose rows it can work on

    def run(self, rows: Rows, bench: Bench) -> Rows:
        """The rows after this step, with the schema they came with."""
        return rows


class Deduplicate(TableProcessor):
    """Of rows with the same wording (`lnmt.data.keys`) the first stays, with its label."""

    def run(self, rows: Rows, bench: Bench) -> Rows:
        spill = HashSpill(bench.work / "hashes")
        with ShardWriter(bench.work / "rows", bench.schema, ROWS_PER_FILE) as writer:
            for batch in rows:
                spill.add(text_hashes(batch.column(TEXT).to_pylist()), label_codes(batch.column(LABEL), bench.task))
                writer.write(batch)
        shape = (max(1, spill.rows),)  # no empty file can be mapped
        keep = np.lib.format.open_memmap(bench.work / "keep.npy", mode="w+", dtype=np.bool_, shape=shape)
        conflicting = 0
        for group in spill.groups():
            keep[group.rows] = group.first
            conflicting += len(group.mixed())
        bench.report.update(dropped=0, conflicting_labels=conflicting)
        start = 0
        for batch in read_batches(bench.work / "rows"):
            mask = np.array(keep[start : start + batch.num_rows])
            start += batch.num_rows
            bench.report["dropped"] += int((~mask).sum())
            yield batch.filter(pa.array(mask))


class Augment(TableProcessor):
    """Gives a share of the training rows a copy with words left out and neighbours swapped.

    What a row becomes depends on its id, its text and the seed alone, so that new rows change no old copy.
    A copy whose wording the split would give to validation or test is drawn again, five times at most.
    Source: Wei & Zou, EDA, EMNLP 2019 (random deletion and random swap).
    """

    train_only = True
    # A tag stands for a word at its place, and a language model learns the order of the words.
    tasks = ("text-classification", "multi-label-classification", "text-regression")

    def __init__(self, share: float, drop_share: float, swap_share: float, seed: int) -> None:
        for name, value in {"share": share, "drop_share": drop_share, "swap_share": swap_share}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be in 0…1")
        self.share, self.drop_share, self.swap_share, self.seed = share, drop_share, swap_share, seed

    def run(self, rows: Rows, bench: Bench) -> Rows:
        bench.report.update(added=0)
        for batch in rows:
            yield batch
            places, texts = [], []
            for place, (name, text) in enumerate(
                zip(batch.column(ID).to_pylist(), batch.column(TEXT).to_pylist(), strict=True)
            ):
                altered = self.alter(name, text, bench.belongs)
                if altered is not None:
                    places.append(place)
                    texts.append(altered)
            if not places:
                continue
            copies = batch.take(pa.array(places))
            names = [f"{name}#augmented" for name in copies.column(ID).to_pylist()]
            copies = copies.set_column(copies.schema.get_field_index(ID), bench.schema.field(ID), pa.array(names))
            copies = copies.set_column(copies.schema.get_field_index(TEXT), bench.schema.field(TEXT), pa.array(texts))
            bench.report["added"] += copies.num_rows
            yield copies

    def alter(self, name: str, text: str, belongs: Callable[[str], bool]) -> str | None:
        """The copy's text; None where this row gets no copy, or no draw gave an allowed other text."""
        seed = hashlib.sha256(f"{self.seed}\0{name}\0{text}".encode("utf-8", "surrogatepass")).digest()
        if int.from_bytes(seed[:8], "big") / 2**64 >= self.share:
            return None
        draw = random.Random(seed)  # noqa: S311 - augmentation, no secret
        for _ in range(5):
            altered = self._draw(text.split(), draw)
            if altered != text and altered and belongs(altered):
                return altered
        return None

    def _draw(self, words: list[str], draw: random.Random) -> str:
        kept = [word for word in words if draw.random() >= self.drop_share]
        for place in range(len(kept) - 1):
            if draw.random() < self.swap_share:
                kept[place], kept[place + 1] = kept[place + 1], kept[place]
        return " ".join(kept)


TABLE_PROCESSORS: Table[type[TableProcessor]] = Table(
    "table_processor",
    {
        "deduplicate": "lnmt.data.table_processors:Deduplicate",
        "augment": "lnmt.data.table_processors:Augment",
    },
)
