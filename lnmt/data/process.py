"""The `process` stage: validated rows → processed, split rows that share no wording between splits.

Legend: N = rows of a batch.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lnmt.data.chain import Chain, make_chain, run_steps
from lnmt.data.hash_spill import HashSpill
from lnmt.data.presence import check_labels
from lnmt.data.split import HOLDOUT, SPLITS, Holdout, Splitter, check_leaks
from lnmt.data.table_processors import Bench, Rows
from lnmt.data.tables import ROWS_PER_FILE, ShardWriter, count_rows, read_batches, table_schema
from lnmt.data.tally import Tally
from lnmt.errors import LnmtError
from lnmt.files import clear_disk_errors, new_directory, read_json, write_json
from lnmt.params import Params
from lnmt.types import TEXT, Split, Task

if TYPE_CHECKING:
    from lnmt.stages import StageIO


def process(params: Params, io: StageIO) -> None:
    """Run the processors in order, split by wording, check for leaks, write the splits and a summary.

    Raises LnmtError where a processor is unknown or fails, a split lacks a label, a slice lost all its rows,
    `holdout` fits no row, or two splits share a wording. `data/processed` appears whole or stays as it was.
    """
    started = time.monotonic()
    source = io.read("data/validated")
    known = read_json(source / "manifest.json")
    _check_task(params.task, known["task"])
    chain = make_chain(params.process.processors, params.task)
    shutil.rmtree(io.work, ignore_errors=True)
    try:
        with (
            clear_disk_errors(io.write("data/processed")),
            new_directory(io.write("data/processed")) as target,
            new_directory(io.write("reports/process")) as report,
        ):
            manifest, summary = _process(params, chain, source, known, target, io)
            write_json(target / "manifest.json", manifest)
            write_json(report / "summary.json", {**summary, "seconds": round(time.monotonic() - started, 3)})
    finally:
        shutil.rmtree(io.work, ignore_errors=True)


def _process(
    whole: Params, chain: Chain, source: Path, known: dict[str, Any], target: Path, io: StageIO
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill `target` with the splits; the manifest and the summary. `known` is the manifest of `source`."""
    params, task = whole.process, whole.task
    labels, slices = tuple(known["labels"]), tuple(known["slices"])
    splitter, holdout = Splitter(params.split, params.salt), Holdout(params.holdout, slices)
    schema = table_schema(slices)
    bench = Bench(io.work / "before", schema, task, labels, belongs=lambda text: True)
    came, went = Tally(slices, task), {name: Tally(slices, task) for name in SPLITS}
    spill = HashSpill(io.work / "leaks")
    train = io.work / "train" if chain.after else target / "train"

    with io.progress.bar("process", total=count_rows(source)) as bar, ExitStack() as stack:
        places = [train if name == "train" else target / name for name in SPLITS]
        writers = [stack.enter_context(ShardWriter(place, schema, ROWS_PER_FILE)) for place in places]

        def incoming() -> Rows:
            for batch in read_batches(source, schema.names):
                came.add(batch)
                bar.advance(batch.num_rows)
                yield batch

        for batch in run_steps(chain.before, incoming(), bench):
            hashes = splitter.hashes(batch.column(TEXT).to_pylist())
            codes = np.where(holdout.mask(batch), np.uint32(HOLDOUT), splitter.codes(hashes))
            for code, name in enumerate(SPLITS):
                chosen = codes == code
                part = batch.filter(pa.array(chosen))
                writers[code].write(part)
                if name != "train" or not chain.after:
                    went[name].add(part)
                    spill.add(hashes[chosen], codes[chosen])
    if chain.after:
        _train_only(chain, train, target / "train", splitter, bench, spill, went["train"], io)

    holdout.check_found(came.values())
    _check_slices(came, went)
    missing = check_labels(task, params.split, labels, went)
    for text in missing:
        io.progress.note(text)
    summary = {
        "rows": {"in": came.rows, "out": sum(one.rows for one in went.values())},
        "processors": chain.reports(),
        "splits": {name: one.summary() for name, one in went.items()},
        "wordings_also_in_holdout": check_leaks(spill, target, splitter),
        "missing_labels": missing,
    }
    manifest = {
        "task": task,
        "labels": list(labels),
        "slices": list(slices),
        "processors": [plugin.model_dump(mode="json") for plugin in chain.text],
        "rows": {name: one.rows for name, one in went.items()},
    }
    return manifest, summary


def _train_only(
    chain: Chain,
    source: Path,
    target: Path,
    splitter: Splitter,
    bench: Bench,
    spill: HashSpill,
    went: Tally,
    io: StageIO,
) -> None:
    """Run the training-only steps from `source` to `target`."""
    own = Bench(
        io.work / "after", bench.schema, bench.task, bench.labels, belongs=lambda text: splitter.split(text) == "train"
    )
    with ShardWriter(target, bench.schema, ROWS_PER_FILE) as writer:
        for batch in run_steps(chain.after, read_batches(source), own):
            writer.write(batch)
            went.add(batch)
            spill.add(splitter.hashes(batch.column(TEXT).to_pylist()), np.zeros(batch.num_rows, dtype=np.uint32))


def _check_task(wanted: Task, found: Task) -> None:
    if wanted != found:
        raise LnmtError(
            "data/validated was judged for another task",
            where="params.yaml: task",
            value=wanted,
            allowed=found,
            fix="run validation again: dvc repro validate",
        )


def _check_slices(came: Tally, went: Mapping[Split, Tally]) -> None:
    """Raise LnmtError where a slice lost all its rows."""
    after: dict[str, Counter[str]] = {column: Counter() for column in came.slices}
    for tally in went.values():
        for column, counts in tally.slices.items():
            after[column].update(counts)
    for column, counts in came.slices.items():
        for value in sorted(counts.keys() - after[column].keys()):
            raise LnmtError(
                f"no row of the slice {column}={value} is left",
                where="params.yaml: process.processors",
                value=f"{counts[value]} rows before, 0 after",
                allowed="at least 1",
                fix="reports/process counts what each processor drops on a run that passes: loosen `filter`, "
                "or leave the slice out in ingest",
            )
