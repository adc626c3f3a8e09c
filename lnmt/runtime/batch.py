"""Batch inference: a file of any size in, the same rows with their answers out, in bounded memory.

The work goes chunk by chunk into a directory beside the target: a run that was killed goes on after
the last whole chunk, and the target appears at the end, whole.

Legend: B = rows of a chunk.
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError, Transient, UnknownName
from lnmt.files import read_json, sha256_file, sync_directory, write_bytes, write_json
from lnmt.progress import Progress
from lnmt.runtime.columns import answer_columns, column_names
from lnmt.runtime.rows import RowReader, Rows, open_rows
from lnmt.runtime.writers import Writer, table_writer

if TYPE_CHECKING:
    import pyarrow as pa

    from lnmt.runtime.predictor import Predictor

ERROR = "error"
WORK_FORMAT = 2  # of the parts; another one starts anew


@dataclass(frozen=True)
class BatchSummary:
    """What a batch run did."""

    rows: int
    errors: int  # rows without an answer; their `error` says why
    resumed: int  # rows that an earlier, unfinished run had done


def predict_file(
    source: Path, target: Path, predictor: Predictor, *, text_column: str, batch_rows: int, progress: Progress
) -> BatchSummary:
    """Answer every row of `source` into `target`; both are .csv, .jsonl, .ndjson or .parquet, by their endings.

    Beside the columns of the source stand the answers, as `lnmt.runtime.columns` names them by task, and
    `error`: null, or why this row has no answer (no text, not UTF-8, a ragged line). `batch_rows` rows
    are read, sorted by length and answered at a time. Called again after a crash with the same source,
    bundle and options, it goes on where it was.

    Raises LnmtError where the file is not what its ending says or has a column in the way, UnknownName
    where it has no column `text_column`, Transient where another process writes the same target.
    """
    from filelock import FileLock, Timeout

    write = table_writer(target)
    if target.exists() and target.samefile(source):
        raise LnmtError("source and target are one file", where=target, fix="name another file to write")
    reader = open_rows(source)
    _check_columns(reader, text_column, answer_names(predictor), source)
    key = [WORK_FORMAT, sha256_file(source), predictor.bundle.digest, text_column, batch_rows]
    work = target.with_name(f".{target.name}.work")
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
    try:
        with lock:
            _open_work(work, key)
            resumed = _answer_all(reader, work, predictor, text_column, batch_rows, progress)
            summary = _publish(work, target, write, resumed)
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise Transient(
            "another process is writing this file", where=target, fix="wait for it, or name another file"
        ) from error
    return summary


def answer_names(predictor: Predictor) -> list[str]:
    """The columns that `predict_file` adds."""
    return [*column_names(predictor.task, predictor.labels), ERROR]


def _check_columns(reader: RowReader, text_column: str, added: list[str], source: Path) -> None:
    columns = reader.schema.names
    if text_column not in columns:
        raise UnknownName("column", text_column, columns, where=source)
    for name in added:
        if name in columns:
            raise LnmtError(
                f"the file already has a column {name!r}, which the answers need",
                where=source,
                allowed=f"any names but {', '.join(added)}",
                fix="rename it, or drop it",
            )


def _open_work(work: Path, key: list[object]) -> None:
    """Keep what an earlier run with the same key left, nothing else."""
    state = work / "state.json"
    if not (state.exists() and read_json(state) == key):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(state, key)


def _parts(work: Path) -> list[Path]:
    return sorted(work.glob("part-*.parquet"))


def _answer_all(
    reader: RowReader, work: Path, predictor: Predictor, text_column: str, size: int, progress: Progress
) -> int:
    """Write the parts that are missing; returns the rows of those that were there."""
    import pyarrow.parquet as pq

    done = len(_parts(work))
    resumed = min(done * size, reader.total)
    with progress.bar("predict", reader.total) as bar:
        bar.advance(resumed)
        for number, rows in enumerate(reader.read(text_column, size, resumed), start=done):
            buffer = io.BytesIO()
            pq.write_table(_answer(rows, predictor), buffer)
            write_bytes(work / f"part-{number:08d}.parquet", buffer.getvalue())
            bar.advance(rows.table.num_rows)
    if not _parts(work):  # a header and no rows: the target has the columns still
        pq.write_table(_answer(Rows(reader.schema.empty_table(), [], []), predictor), work / "part-00000000.parquet")
    return resumed


def _answer(rows: Rows, predictor: Predictor) -> pa.Table:
    """The chunk with its answers."""
    problems = list(rows.problems)
    answers: list[Any] = [None] * len(problems)
    wanted = [index for index, text in enumerate(rows.texts) if text is not None]
    texts = [text for text in rows.texts if text is not None]
    try:
        for place, answer in zip(wanted, predictor.predict(texts), strict=True):
            answers[place] = answer
    except LnmtError as error:
        _answer_singly(predictor, texts, wanted, answers, problems, error)
    return append_answers(rows.table, predictor, answers, problems)


def _answer_singly(
    predictor: Predictor,
    texts: list[str],
    places: list[int],
    answers: list[Any],
    problems: list[str | None],
    failure: LnmtError,
) -> None:
    """Row by row, so that one which the engine cannot answer costs no other; raises `failure` where all fail."""
    for text, place in zip(texts, places, strict=True):
        try:
            answers[place] = predictor.predict([text])[0]
        except LnmtError as error:
            problems[place] = error.what
    if len(texts) > 1 and all(problems[place] is not None for place in places):
        raise failure


def append_answers(
    table: pa.Table, predictor: Predictor, answers: Sequence[Any], problems: Sequence[str | None]
) -> pa.Table:
    """`table` with the answer columns: predictions [B], None where `problems` tells why."""
    import pyarrow as pa

    for field, column in answer_columns(predictor.task, predictor.labels, answers):
        table = table.append_column(field, column)
    return table.append_column(pa.field(ERROR, pa.string()), pa.array(problems, pa.string()))


def _publish(work: Path, target: Path, write: Writer, resumed: int) -> BatchSummary:
    """All parts as the target, which appears whole; then the work directory goes."""
    import pyarrow.parquet as pq

    rows = errors = 0
    parts = _parts(work)

    def tables() -> Iterator[pa.Table]:
        nonlocal rows, errors
        for part in parts:
            table = pq.read_table(part)
            rows += table.num_rows
            errors += table.num_rows - table[ERROR].null_count
            yield table

    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        write(temporary, pq.read_schema(parts[0]), tables())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)
    shutil.rmtree(work)
    return BatchSummary(rows, errors, resumed)
