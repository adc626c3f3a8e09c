"""What is in a data file: its columns, and what a label column holds. Read the way `ingest` will read it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Columns, Csv, FileItem, FilesSource

TEXT_NAMES = ("text", "sentence", "review", "content", "message", "comment", "body", "tweet", "document", "utterance")
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "intent", "target", "topic", "tag", "y")
DELIMITERS = ",\t;|"
MAX_LABELS = 200


@dataclass(frozen=True)
class Look:
    """What a file holds."""

    rows: int
    labels: dict[str, int]  # label → rows, in alphabetical order
    unlabelled: int


def file_columns(path: Path, encoding: str) -> tuple[list[str], Csv | None]:
    """Column names in the file's order, and how a CSV is written. Raises LnmtError for a file that cannot be read."""
    from lnmt.data.sources.files import format_of

    if not path.is_file():
        raise LnmtError("no such file", where=path, fix="name a CSV, JSON, JSONL, Parquet or Arrow file")
    if path.stat().st_size == 0:
        raise LnmtError("the file is empty", where=path, fix="name a file with rows")
    kind = format_of(path)
    if kind == "csv":
        return _csv_columns(path, encoding)
    if kind in {"json", "jsonl"}:
        return _json_columns(path, encoding), None
    return _columnar_columns(path), None


def _csv_columns(path: Path, encoding: str) -> tuple[list[str], Csv]:
    from lnmt.data.sources.compressed import text_lines

    first = next(iter(text_lines(path, encoding)), "").strip("\r\n")
    delimiter = max(DELIMITERS, key=first.count)
    names = next(csv.reader([first], delimiter=delimiter), [])
    return names, Csv(delimiter=delimiter, header=None, quote='"')


def _json_columns(path: Path, encoding: str) -> list[str]:
    from lnmt.data.sources.json_rows import json_objects

    names: dict[str, None] = {}
    for _, row in islice(json_objects(path, encoding), 100):  # keys that are missing in some rows
        names.update(dict.fromkeys(row))
    return list(names)


def _columnar_columns(path: Path) -> list[str]:
    import pyarrow.dataset as ds

    from lnmt.data.sources.compressed import plain_file
    from lnmt.data.sources.files import format_of

    with TemporaryDirectory() as work, plain_file(path, Path(work)) as plain:
        return list(ds.dataset(plain, format=format_of(path)).schema.names)


def choose_column(kind: str, asked: str | None, names: Sequence[str], usual: Iterable[str]) -> str | None:
    """The asked column, or one with a usual name; None where there is nothing to go by. Raises UnknownName."""
    if asked is not None:
        if asked not in names:
            raise UnknownName(f"{kind} column", asked, names, where=f"--{kind}")
        return asked
    by_name = {name.lower(): name for name in names}
    return next((by_name[name] for name in usual if name in by_name), None)


def read_labels(path: Path, source: FilesSource) -> Look:
    """Count the labels, in bounded memory. Raises LnmtError where the column holds no classes."""
    from lnmt.data.sources.canonical import canonical_batches
    from lnmt.data.sources.source import Context, open_source
    from lnmt.progress import Progress
    from lnmt.types import LABEL

    counts: Counter[str | None] = Counter()
    with TemporaryDirectory() as work:
        context = Context(
            root=path.parent, cache=Path(work), work=Path(work), offline=True, progress=Progress(show=False)
        )
        for part in open_source(source.kind, source, [], context).parts():
            for batch in canonical_batches(part, part.prefix, None, [], None):
                counts.update(batch.column(LABEL).to_pylist())
                if len(counts) > MAX_LABELS:
                    raise _no_classes(path, str(source.columns.label), [label for label in counts if label is not None])
    unlabelled = counts.pop(None, 0)
    labels = {label: counts[label] for label in sorted(label for label in counts if label is not None)}
    if len(labels) < 2:
        raise LnmtError(
            "a classifier needs at least two labels",
            where=f"{path}, column {source.columns.label!r}",
            value=", ".join(labels) or "no label at all",
            fix="name another label column, or add rows of another label",
        )
    return Look(sum(counts.values()) + unlabelled, labels, unlabelled)


def source_of(path: str, text: str, label: str, identity: str | None, csv_options: Csv | None, enc: str) -> FilesSource:
    """The entry of `ingest.sources` for one file of the project."""
    return FilesSource(
        kind="files",
        base=None,
        digest=None,
        archive=None,
        files=[FileItem(path=path, set={})],
        format="auto",
        encoding=enc,
        csv=csv_options,
        columns=Columns(text=text, label=label, id=identity),
        bins=None,
    )


def _no_classes(path: Path, column: str, labels: list[str]) -> LnmtError:
    return LnmtError(
        f"more than {MAX_LABELS} different labels: these are no classes",
        where=f"{path}, column {column!r}",
        value=", ".join(labels[:5]) + ", …",
        fix="name another label column; for a number, set `bins` in params.yaml as the demo's file does",
    )
