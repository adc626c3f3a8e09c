"""A split's rows as token ids in Arrow files: written by several processes, read by mapping them into memory.

A file holds one record batch, so that each of its columns is one array: `id` string, `tokens` a list of int32, and
`label` by task: int64, float32, C float32 (multi-label), or a list of int64 as long as the row's tokens. There is no
label for text-generation. `shards.json` beside them, written last, tells their order, sizes and checksums.

Legend: N = rows, C = labels, T = tokens.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lnmt.data.children import FORKS, become_child, forking
from lnmt.data.labels import check_words, parse_labels, split_words
from lnmt.data.tables import count_rows, read_shard, shards
from lnmt.errors import LnmtError
from lnmt.files import read_json, write_json
from lnmt.text.bulk import BulkEncoder
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import ID, IGNORED, LABEL, TEXT, Task

INDEX = "shards.json"
READ_ROWS = 16384
SHARD_TOKENS = 2**25  # a file is ended once it holds so many: 128 MiB
SMALL = 20_000  # rows that are tokenised before other processes would have started
_BLOCK = 2**22  # bytes read at a time for a checksum


@dataclass(frozen=True)
class Shard:
    """One file's columns, mapped."""

    tokens: NDArray[np.int32]  # [T]
    starts: NDArray[np.int64]  # [N + 1], where each row begins
    labels: NDArray[Any] | None  # [N], [N, C] or [T] by task
    ids: pa.StringArray  # [N]


@dataclass(frozen=True)
class Work:
    """What becomes of a row."""

    task: Task
    labels: tuple[str, ...]
    tokenizer: Tokenizer


def write_shards(
    split: Path, target: Path, work: Work, advance: Callable[[int], None], processes: int | None = None
) -> None:
    """Tokenise the table `split` into the directory `target`.

    The files are the same for any number of `processes`; None: one a core, where it pays. `advance` is told of rows.
    Raises LnmtError, naming the row, for a row that cannot be learnt from.
    """
    parts = shards(split)
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if FORKS and count_rows(split) >= SMALL else 1
    written: list[dict[str, Any]] = []
    for found in _each(parts, target, work, min(processes, len(parts))):
        written.extend(found)
        advance(sum(shard["rows"] for shard in found))
    write_json(target / INDEX, {"shards": written})


def open_shards(directory: Path) -> list[Shard]:
    """Map what `write_shards` left in `directory`, without looking at it."""
    return [_open(directory / shard["name"]) for shard in read_json(directory / INDEX)["shards"]]


def find_damage(directory: Path) -> str | None:
    """What is wrong with the files of `directory`; None where each has its size and checksum."""
    try:
        expected = read_json(directory / INDEX)["shards"]
        for shard in expected:
            path = directory / shard["name"]
            if not path.is_file():
                return f"{shard['name']} is missing"
            if path.stat().st_size != shard["bytes"]:
                return f"{shard['name']} has {path.stat().st_size} bytes, not {shard['bytes']}"
            if _checksum(path) != shard["crc32"]:
                return f"the bytes of {shard['name']} have changed"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{INDEX} cannot be read: {error}"
    return None


def _each(parts: list[Path], target: Path, work: Work, processes: int) -> Iterator[list[dict[str, Any]]]:
    """What was written of each part, in their order."""
    encoder = BulkEncoder(work.tokenizer)
    if processes <= 1:
        for part in parts:
            yield _write(part, target, work, encoder)
        return
    # Forked, a process has the tokenizer at once, and a script that calls this needs no `__main__` guard.
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (os.getpid(), target, work, encoder)) as pool:
        try:
            with forking():
                found = pool.map(_write_part, parts)
            yield from found
        except BrokenProcessPool as error:
            raise LnmtError(
                "a process that tokenised was ended from outside",
                where=parts[0].parent,
                fix="see whether memory ran out, then run the same command again",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_job: tuple[Path, Work, BulkEncoder]  # of a forked process


def _begin(parent: int, target: Path, work: Work, encoder: BulkEncoder) -> None:
    global _job
    become_child(parent, ends_on_term=True)
    pa.set_cpu_count(1)
    _job = target, work, encoder


def _write_part(part: Path) -> list[dict[str, Any]]:
    return _write(part, *_job)


def _write(part: Path, target: Path, work: Work, encoder: BulkEncoder) -> list[dict[str, Any]]:
    """Tokenise one file of the table into one or more files; what the index says of them."""
    written: list[dict[str, Any]] = []
    held: list[pa.RecordBatch] = []
    tokens = 0

    def finish() -> None:
        nonlocal tokens
        path = target / f"{part.stem}-{len(written):03d}.arrow"
        batch = pa.concat_batches(held)
        with pa.ipc.new_file(str(path), batch.schema) as file:
            file.write_batch(batch)
        written.append(
            {"name": path.name, "rows": batch.num_rows, "bytes": path.stat().st_size, "crc32": _checksum(path)}
        )
        held.clear()
        tokens = 0

    for batch in read_shard(part, (ID, TEXT, LABEL), READ_ROWS):
        held.append(_tokenise(batch, work, encoder, part.parent))
        tokens += len(held[-1].column("tokens").values)
        if tokens >= SHARD_TOKENS:
            finish()
    if held:
        finish()
    return written


def _tokenise(batch: pa.RecordBatch, work: Work, encoder: BulkEncoder, where: Path) -> pa.RecordBatch:
    ids, texts = batch.column(ID), batch.column(TEXT)
    names = ids.to_pylist()
    if texts.null_count:
        raise _unfit("a row has no text", names[texts.is_null().to_pylist().index(True)], where)
    columns: dict[str, pa.Array] = {}
    if work.task == "text-generation":
        rows = encoder.documents(texts)
        columns["tokens"] = _lists(rows.values, rows.lengths)
    elif work.task == "token-classification":
        columns["tokens"], columns["label"] = _tagged(batch, names, work, encoder, where)
    else:
        rows = encoder.texts(texts)
        columns["tokens"] = _lists(rows.values, rows.lengths)
        columns["label"] = _labels(batch.column(LABEL).to_pylist(), names, work, where)
    empty = np.flatnonzero(np.diff(columns["tokens"].offsets) == 0)
    if len(empty):
        raise _unfit("a row has no tokens", names[empty[0]], where)
    return pa.record_batch({"id": ids, **columns})


def _labels(values: list[str | None], names: list[str], work: Work, where: Path) -> pa.Array:
    targets = parse_labels(values, names, work.task, work.labels, where=where)
    if work.task != "multi-label-classification":
        return pa.array(targets)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(targets).reshape(-1)), len(work.labels))


def _tagged(
    batch: pa.RecordBatch, names: list[str], work: Work, encoder: BulkEncoder, where: Path
) -> tuple[pa.Array, pa.Array]:
    """Tokens and their labels: the tag of a word stands at the first of its tokens, IGNORED at all others."""
    texts = batch.column(TEXT).to_pylist()
    tags = parse_labels(batch.column(LABEL).to_pylist(), names, work.task, work.labels, where=where)
    assert isinstance(tags, list)
    check_words(tags, texts, names, where=where)
    rows, words = encoder.words([split_words(text) for text in texts])
    known = np.concatenate([np.empty(0, np.int64), *tags, np.array([IGNORED])])  # word -1 is the last: none
    return _lists(rows.values, rows.lengths), _lists(known[words], rows.lengths)


def _lists(values: NDArray[Any], lengths: NDArray[np.int64]) -> pa.LargeListArray:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _open(path: Path) -> Shard:
    with pa.memory_map(str(path)) as file:  # the columns keep the mapping
        batch = pa.ipc.open_file(file).get_batch(0)
    tokens = batch.column("tokens")
    labels: NDArray[Any] | None = None
    if "label" in batch.schema.names:
        column = batch.column("label")
        nested = pa.types.is_nested(column.type)
        labels = (column.values if nested else column).to_numpy()
        if pa.types.is_fixed_size_list(column.type):
            labels = labels.reshape(-1, column.type.list_size)
    return Shard(tokens.values.to_numpy(), tokens.offsets.to_numpy(), labels, batch.column("id"))


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
    return found


def _unfit(what: str, name: str, where: Path) -> LnmtError:
    return LnmtError(
        what,
        where=where,
        value=f"row {name}",
        allowed="a text that the tokenizer has at least one token for",
        fix="drop such rows: process.processors, filter with min_characters",
    )
