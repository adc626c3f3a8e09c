"""Files: paths and globs of CSV, JSON, JSONL, Parquet and Arrow, each plain or .gz or .zst."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from lnmt.data.sources.columnar import read_arrow, read_parquet
from lnmt.data.sources.compressed import check_encoding, compression_of, plain_file
from lnmt.data.sources.delimited import read_csv
from lnmt.data.sources.json_rows import json_lines, json_objects
from lnmt.data.sources.rows import batches_of
from lnmt.data.sources.source import Context, Part, Wanted
from lnmt.errors import LnmtError
from lnmt.files import sha256_file
from lnmt.params import Columns, Csv, FileItem, FilesSource

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


@dataclass(frozen=True)
class FilesReader:
    """The `files` source: below its base, which may come from the hub, or below the project."""

    source: FilesSource
    slices: Sequence[str]
    context: Context

    def parts(self) -> Iterator[Part]:
        check_encoding(self.source.encoding)
        base, label = self._base()
        for item in self.source.files:
            paths = self._find(base, item)
            for path in paths:
                relative = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
                # A file that stands for one value of a slice is called by it: `product/12`.
                alone = item.set and len(paths) == 1
                yield Part(
                    name=f"{label}{relative}",
                    prefix="-".join(item.set.values()) if alone else _without_endings(relative),
                    digest=sha256_file(path),
                    wanted=Wanted(self.source.columns, self.slices, item.set),
                    read=partial(self._read, path),
                )

    def _base(self) -> tuple[Path, str]:
        """The directory that paths are relative to, and what stands before them in the manifest."""
        reference, archive = self.source.base, self.source.archive
        here = self.context
        if reference is None:
            if archive is None:
                return here.root, ""
            base, label = here.root, ""
        else:
            from lnmt.hub import fetch

            digest = self.source.digest
            base = fetch(
                reference,
                digest=digest,
                cache=here.cache,
                progress=here.progress,
                offline=here.offline,
                root=here.root,
            )
            label = f"{reference}/"
        if archive is not None:
            from lnmt.hub import open_archive

            base = open_archive(base, archive, cache=here.cache, progress=here.progress)
            label += f"{archive}/"
        return base, label

    def _find(self, base: Path, item: FileItem) -> list[Path]:
        found = sorted(base / name for name in glob.glob(item.path, root_dir=base, recursive=True))  # noqa: PTH207
        paths = [path for path in found if path.is_file()]
        if self.source.base is not None or self.source.archive is not None:
            paths = [path for path in paths if path.resolve().is_relative_to(base.resolve())]
        if paths:
            return paths
        beside = sorted(path.relative_to(base).as_posix() for path in base.glob("*") if not path.name.startswith("."))
        near = difflib.get_close_matches(item.path, beside, n=1, cutoff=0.5)
        raise LnmtError(
            "no file fits",
            where=base,
            value=item.path,
            allowed=", ".join(beside[:12]) or "the directory is empty",
            fix=f"did you mean {near[0]!r}?"
            if near
            else "mend `files.path`: DIRECTORY/*.csv, or **/*.csv for what lies deeper",
        )

    def _read(self, path: Path, wanted: Wanted) -> Generator[pa.RecordBatch]:
        kind = format_of(path) if self.source.format == "auto" else self.source.format
        return read_file(path, kind, self.source.csv, self.source.encoding, wanted, self.context.work)


@dataclass(frozen=True)
class IncomingReader:
    """Files that were added to a directory: columns `text`, `label`, perhaps `id` and slices. It may be empty.

    Without `labels` a column of them is not asked for, and not read.
    """

    directory: Path
    slices: Sequence[str]
    context: Context
    labels: bool = True

    def parts(self) -> Iterator[Part]:
        columns = Columns(text="text", label="label" if self.labels else None, id="id")
        for path in sorted(self.directory.rglob("*")):
            relative = path.relative_to(self.directory)
            if path.is_file() and not any(name.startswith(".") for name in relative.parts):
                name = f"{self.directory.name}/{relative.as_posix()}"
                yield Part(
                    name=name,
                    prefix=_without_endings(name),
                    digest=sha256_file(path),
                    wanted=Wanted(columns, self.slices, id_is_optional=True),
                    read=partial(self._read, path),
                )

    def _read(self, path: Path, wanted: Wanted) -> Generator[pa.RecordBatch]:
        return read_file(path, format_of(path), None, "utf-8", wanted, self.context.work)


def read_file(
    path: Path, kind: str, csv: Csv | None, encoding: str, wanted: Wanted, work: Path
) -> Generator[pa.RecordBatch]:
    """The wanted columns of one file. `kind` is a format of `params.yaml`, without `auto`."""
    if path.stat().st_size == 0:
        raise LnmtError("the file is empty", where=path, fix="fill it, or take it out")
    if kind == "csv":
        yield from read_csv(path, csv, encoding, wanted)
    elif kind in {"json", "jsonl"}:
        rows = json_lines(path, encoding) if kind == "jsonl" else json_objects(path, encoding)
        yield from batches_of(rows, wanted, path)
    else:
        with plain_file(path, work) as plain:
            yield from (read_parquet if kind == "parquet" else read_arrow)(plain, wanted, path)


def format_of(path: Path) -> str:
    """The format by the file's ending, that of the compression taken off. Raises LnmtError where it says nothing."""
    ending = (path.with_suffix("") if compression_of(path) else path).suffix.lower()
    if ending not in FORMATS:
        raise LnmtError(
            "the file's ending tells no format",
            where=path,
            value=ending or "no ending",
            allowed=", ".join(FORMATS) + ", each also with .gz or .zst",
            fix="rename the file, or set `format`",
        )
    return FORMATS[ending]


def _without_endings(relative: str) -> str:
    """`a/b.csv.gz` → `a/b`."""
    path = Path(relative)
    if compression_of(path):
        path = path.with_suffix("")
    return (path.with_suffix("") if path.suffix.lower() in FORMATS else path).as_posix()
