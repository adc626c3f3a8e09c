"""`ingest`: where rows come from."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lnmt.params.section import Count, Positive, Section


class Bin(Section):
    """Rows whose number is ≤ `at_most`, or ≥ `at_least`; the bin with neither takes the rest."""

    label: str
    at_most: float | None = None
    at_least: float | None = None


class Columns(Section):
    """The source's own names of the columns."""

    text: str
    label: str | None  # null: text-generation, which has none
    id: str | None  # null: the row's place in its file


class Csv(Section):
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    header: list[str] | None  # null: the first line names the columns
    quote: str | None


class SourceBase(Section):
    columns: Columns
    bins: Annotated[list[Bin], Field(min_length=1)] | None

    @model_validator(mode="after")
    def _bins_are_apart(self) -> SourceBase:
        ranges = []  # of the bins with a bound, both ends inclusive
        for one in self.bins or ():
            if one.at_least is not None or one.at_most is not None:
                low = -inf if one.at_least is None else one.at_least
                high = inf if one.at_most is None else one.at_most
                if low > high:
                    raise ValueError(f"bin {one.label!r} is empty: at_least is above at_most")
                ranges.append((low, high, one.label))
        ranges.sort()
        for (_, high, first), (low, _, second) in pairwise(ranges):
            if low <= high:
                raise ValueError(f"bins {first!r} and {second!r} both hold {low}; bounds are inclusive")
        rest = [one.label for one in self.bins or () if one.at_least is None and one.at_most is None]
        if self.bins and len(rest) != 1:
            # Inclusive ends that do not touch always leave numbers between them.
            raise ValueError(f"exactly one bin takes the rest (no at_least, no at_most); found {len(rest)}: {rest}")
        return self


class FileItem(Section):
    """A path or glob inside the base, and columns with one value for all its rows."""

    path: str
    set: dict[str, str]


class FilesSource(SourceBase):
    kind: Literal["files"]
    base: str | None
    digest: str | None
    archive: str | None
    files: Annotated[list[FileItem], Field(min_length=1)]
    format: Literal["auto", "csv", "json", "jsonl", "parquet", "arrow"]
    encoding: str
    csv: Csv | None


class DatabaseSource(SourceBase):
    """`url` may name an environment variable (`env:NAME`), so that no password stands in params.yaml."""

    kind: Literal["database"]
    url: str
    query: str
    set: dict[str, str]


class HttpSource(SourceBase):
    """GET `url` page by page: `items` is the dotted path of the list; `next` that of the next page's URL or cursor."""

    kind: Literal["http"]
    url: str
    headers: dict[str, str]
    items: str | None
    next: str | None
    cursor_parameter: str | None
    timeout_s: Positive
    set: dict[str, str]


class HubDataSource(SourceBase):
    """A data set of the Hugging Face hub."""

    kind: Literal["hf"]
    repository: str
    revision: str
    split: str
    set: dict[str, str]


Source = Annotated[FilesSource | DatabaseSource | HttpSource | HubDataSource, Field(discriminator="kind")]


class IngestParams(Section):
    sources: Annotated[list[Source], Field(min_length=1)]
    slices: list[str]
    limit: Count | None
    rows_per_file: Count

    @model_validator(mode="after")
    def _slices_are_known(self) -> IngestParams:
        if len({*self.slices, "id", "text", "label"}) != len(self.slices) + 3:
            raise ValueError("slices are named once each, and not id, text or label")
        for source in self.sources:
            items = source.files if isinstance(source, FilesSource) else [source]
            for name in {name for item in items for name in item.set} - set(self.slices):
                raise ValueError(f"`set` gives {name!r}, which `slices` does not keep: {self.slices}")
        return self
