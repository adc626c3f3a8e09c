"""What a data source is: something that gives parts, each a stream of record batches."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lnmt.errors import LnmtError
from lnmt.params import Columns
from lnmt.params.ingest import SourceBase
from lnmt.plugins.table import Table
from lnmt.progress import Progress


@dataclass(frozen=True)
class Context:
    """Where a source runs."""

    root: Path  # relative paths start here
    cache: Path
    work: Path  # for temporary files
    offline: bool
    progress: Progress


@dataclass(frozen=True)
class Wanted:
    """The columns that are read, by the source's own names."""

    columns: Columns
    slices: Sequence[str]
    set: Mapping[str, str] = field(default_factory=dict)  # columns with one value for all rows; they win
    id_is_optional: bool = False

    def choose(self, found: Sequence[str], where: object) -> list[str]:
        """Those of `found` that are read. Raises LnmtError where a column that must be there is not."""
        name_of_id = None if self.id_is_optional and self.columns.id not in found else self.columns.id
        must = [name for name in (name_of_id, self.columns.text, self.columns.label) if name is not None]
        for name in must:
            if name not in found:
                near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
                raise LnmtError(
                    f"no column {name!r}",
                    where=where,
                    value=", ".join(map(repr, found)) or "no columns",
                    allowed=", ".join(map(repr, must)),
                    fix=(f"did you mean {near[0]!r}? " if near else "")
                    + "Name the source's columns under `columns` (and `csv.header`, where the file has none)",
                )
        optional = [name for name in self.slices if name in found and name not in self.set]
        chosen = list(dict.fromkeys([*must, *optional]))
        double = [name for name in chosen if list(found).count(name) > 1]
        if double:
            raise LnmtError(
                "a column name stands twice", where=where, value=", ".join(double), fix="rename one of the columns"
            )
        return chosen


@dataclass(frozen=True)
class Part:
    """One file, query or address."""

    name: str  # as the manifest and errors tell it
    prefix: str  # of the ids of its rows
    digest: str | None  # of the bytes it is read from; None where there are none to digest
    wanted: Wanted
    read: Callable[[Wanted], Generator[pa.RecordBatch]]  # the wanted columns that it has, of any type


class DataSource(Protocol):
    """One entry of `params.yaml: ingest.sources`."""

    def parts(self) -> Iterator[Part]:
        """Its parts, in an order that does not change from call to call."""


# (the entry, the slice columns, where it runs) → the source
SourceFactory = Callable[[SourceBase, Sequence[str], Context], DataSource]

SOURCES: Table[SourceFactory] = Table(
    "data source",
    {
        "files": "lnmt.data.sources.files:FilesReader",
        "database": "lnmt.data.sources.database:DatabaseReader",
        "http": "lnmt.data.sources.http:HttpReader",
        "hf": "lnmt.data.sources.hub:HubReader",
    },
)


def open_source(kind: str, source: SourceBase, slices: Sequence[str], context: Context) -> DataSource:
    """The source of `kind` for an entry of `params.yaml: ingest.sources`."""
    return SOURCES.get(kind, where="params.yaml: ingest.sources")(source, slices, context)
