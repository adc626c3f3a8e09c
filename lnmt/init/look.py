"""What is in a data file: its columns, and how it is written. Read the way `ingest` will read it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Columns, Csv, FileItem, FilesSource

TEXT_NAMES = ("text", "sentence", "review", "content", "message", "comment", "body", "tweet", "document", "utterance")
LABEL_NAMES = ("label", "labels", "class", "category", "sentiment", "intent", "target", "topic", "tag", "tags", "y")
DELIMITERS = ",\t;|"


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


def source_of(
    path: str, text: str, label: str | None, identity: str | None, csv_options: Csv | None, encoding: str
) -> FilesSource:
    """The entry of `ingest.sources` for one file of the project; `label` is None for text-generation."""
    return FilesSource(
        kind="files",
        base=None,
        digest=None,
        archive=None,
        files=[FileItem(path=path, set={})],
        format="auto",
        encoding=encoding,
        csv=csv_options,
        columns=Columns(text=text, label=label, id=identity),
        bins=None,
    )
