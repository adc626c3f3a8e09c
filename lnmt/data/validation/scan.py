"""One pass over the raw rows: the good go on, the bad to quarantine with their reasons, and everything is counted.

Legend: N = rows of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.hash_spill import HashSpill
from lnmt.data.keys import hashes, text_hashes
from lnmt.data.labels import foreign_names, label_codes
from lnmt.data.tables import ROWS_PER_FILE, ShardWriter, read_batches
from lnmt.data.tally import Tally
from lnmt.data.validation.expectations import Expectations
from lnmt.data.validation.features import CHARACTERS, count_scripts, row_features
from lnmt.data.validation.rules import Rule
from lnmt.types import ID, LABEL, TEXT, Task

REASON = "reason"
SAMPLES = 10  # rows shown for each reason
SAMPLE_CHARACTERS = 200
LENGTH_EDGES: Final = (1, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
_MAX_FOREIGN_LABELS = 1000  # labels outside the set that are counted by name


@dataclass(frozen=True)
class Sample:
    """A quarantined row, shortened."""

    id: str | None
    text: str | None
    label: str | None


@dataclass
class Scan:
    """What the pass found. Labels, slices, lengths and scripts are of the good rows."""

    tally: Tally
    rows: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    foreign_labels: Counter[str] = field(default_factory=Counter)  # rows that have it; for a regression: no numbers
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(LENGTH_EDGES) + 1, dtype=np.int64))
    scripts: Counter[str] = field(default_factory=Counter)  # of an even sample of each batch
    repeated_texts: int = 0
    repeated_ids: int = 0
    conflicting_labels: int = 0  # wordings that stand with different labels


@dataclass(frozen=True)
class Places:
    """Where a scan writes."""

    good: Path
    quarantine: Path
    work: Path


def scan(
    source: Path,
    schema: pa.Schema,
    task: Task,
    labels: Sequence[str],
    rules: Sequence[Rule],
    judge: Expectations,
    places: Places,
    advance: Callable[[int], None],
) -> Scan:
    """Judge every row of `source`, which has `schema`; write tables to `places`; call `advance(rows)` as it goes."""
    slices = [name for name in schema.names if name not in (ID, TEXT, LABEL)]
    found = Scan(Tally(slices, task))
    suite = judge.suite("rows", rules)
    texts, ids = HashSpill(places.work / "texts"), HashSpill(places.work / "ids")
    known = frozenset(labels)
    with (
        ShardWriter(places.good, schema, ROWS_PER_FILE) as good,
        ShardWriter(places.quarantine, schema.append(pa.field(REASON, pa.string())), ROWS_PER_FILE) as quarantine,
    ):
        for batch in read_batches(source, schema.names):
            features = row_features(batch, task, known)
            outcomes = judge.judge(features.to_pandas(), suite)
            reasons: dict[int, list[str]] = {}
            for rule in rules:
                for place in outcomes[rule.name].failing:
                    reasons.setdefault(place, []).append(rule.reason)
            passed = np.ones(batch.num_rows, dtype=np.bool_)
            passed[list(reasons)] = False

            bad = batch.filter(pa.array(~passed))
            why = [reasons[place] for place in sorted(reasons)]
            joined = pa.array(["; ".join(one) for one in why], pa.string())
            quarantine.write(bad.append_column(quarantine_field(), joined))
            _note(found, bad, why, task, known)

            kept = batch.filter(pa.array(passed))
            good.write(kept)
            found.tally.add(kept)
            texts.add(text_hashes(kept.column(TEXT).to_pylist()), label_codes(kept.column(LABEL), task))
            ids.add(hashes(kept.column(ID).to_pylist()), np.zeros(kept.num_rows, dtype=np.uint32))
            characters = features.filter(pa.array(passed)).column(CHARACTERS).to_numpy()
            places_of = np.searchsorted(LENGTH_EDGES, characters, side="right")
            found.lengths += np.bincount(places_of, minlength=len(found.lengths))
            found.scripts += count_scripts(kept.column(TEXT))
            found.rows += batch.num_rows
            advance(batch.num_rows)
    found.repeated_texts, found.conflicting_labels = texts.repeats(), texts.mixed()
    found.repeated_ids = ids.repeats()
    return found


def quarantine_field() -> pa.Field:
    """The column that a quarantined row has besides its own."""
    return pa.field(REASON, pa.string())


def _note(found: Scan, bad: pa.RecordBatch, why: list[list[str]], task: Task, known: Collection[str]) -> None:
    """Count the reasons and the unknown labels of the bad rows, and keep the first samples of each reason."""
    found.quarantined += bad.num_rows
    for place, names in enumerate(why):
        found.reasons.update(names)
        for name in names:
            samples = found.samples.setdefault(name, [])
            if len(samples) < SAMPLES:
                samples.append(Sample(*(_short(bad.column(column)[place].as_py()) for column in (ID, TEXT, LABEL))))
    for entry in bad.column(LABEL).drop_null().value_counts().to_pylist():
        for foreign in foreign_names(entry["values"], task, known):
            name = _short(foreign) or ""
            if name in found.foreign_labels or len(found.foreign_labels) < _MAX_FOREIGN_LABELS:
                found.foreign_labels[name] += entry["counts"]


def _short(value: str | None) -> str | None:
    if value is None or len(value) <= SAMPLE_CHARACTERS:
        return value
    return f"{value[:SAMPLE_CHARACTERS]}… ({len(value):,} characters)"
