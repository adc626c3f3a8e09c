"""Rows of a CSV, JSON Lines or Parquet file, in Arrow tables of one schema; what is wrong with a row stays its own.

A file is read twice: once to learn its rows and columns (inference takes a hundred times as long),
once in chunks. Legend: B = rows of a chunk.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lnmt.errors import LnmtError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_FIELD = 64 * 2**20  # characters of one CSV field; a quote that nothing closes swallows the rest of a file
JSON = {b"lnmt": b"json"}  # metadata of a field whose strings hold JSON


@dataclass(frozen=True)
class Rows:
    """A chunk."""

    table: pa.Table  # the source's columns, B rows
    texts: list[str | None]  # B of them; None where `problems` tells why
    problems: list[str | None]  # B of them


class RowReader(Protocol):
    """One file, already scanned."""

    schema: pa.Schema  # of every chunk
    total: int  # rows

    def read(self, text_column: str, size: int, skip: int) -> Iterator[Rows]:
        """Chunks of `size` rows, the last one shorter, after the first `skip` rows."""


def open_rows(source: Path) -> RowReader:
    """Scan `source`. Raises LnmtError where it is absent, empty, or not what its ending says."""
    kinds: dict[str, type[CsvRows | JsonRows | ParquetRows]] = {
        ".csv": CsvRows,
        ".jsonl": JsonRows,
        ".ndjson": JsonRows,
        ".parquet": ParquetRows,
    }
    kind = kinds.get(source.suffix.lower())
    if kind is None:
        raise LnmtError(
            "unknown kind of file",
            where=source,
            value=source.suffix or "no ending",
            allowed=", ".join(kinds),
            fix="convert it, or give it the ending of what it is",
        )
    if not source.is_file():
        raise LnmtError("no such file", where=source, fix="name a file that is there")
    return kind(source)


class CsvRows:
    """Comma-separated, UTF-8, the first line names the columns; every column is text."""

    def __init__(self, source: Path) -> None:
        import pyarrow as pa

        self._source = source
        with self._lines() as lines:
            header = next(lines, None)
            if header is None:
                raise LnmtError("the file is empty", where=source, fix="give it a header line and rows")
            self._header = [repair(name)[0] for name in header]
            self.total = sum(1 for _ in lines)
        doubled = sorted({name for name in self._header if self._header.count(name) > 1})
        if doubled:
            raise LnmtError("two columns have one name", where=source, value=doubled[0], fix="rename one of them")
        self.schema = pa.schema([(name, pa.string()) for name in self._header])

    def read(self, text_column: str, size: int, skip: int) -> Iterator[Rows]:
        import pyarrow as pa

        place, width = self._header.index(text_column), len(self._header)
        with self._lines() as lines:
            rows = islice(lines, 1 + skip, None)
            while chunk := list(islice(rows, size)):
                texts, problems = list[str | None](), list[str | None]()
                cells: list[list[str | None]] = []
                for row in chunk:
                    repaired = [repair(value) for value in row]
                    problem = None
                    if len(row) != width:
                        problem = f"the line has {len(row)} fields, the header {width}"
                    elif any(broken for _, broken in repaired):
                        problem = "not UTF-8"
                    text, problem = check_text(repaired[place][0] if place < len(row) else None, problem)
                    texts.append(text)
                    problems.append(problem)
                    cells.append([value for value, _ in repaired[:width]] + [None] * (width - len(row)))
                columns = [pa.array(column, pa.string()) for column in zip(*cells, strict=True)]
                yield Rows(pa.table(columns, schema=self.schema), texts, problems)

    @contextmanager
    def _lines(self) -> Iterator[Iterator[list[str]]]:
        """Non-blank records; bytes that are not UTF-8 come as surrogates."""
        limit = csv.field_size_limit(MAX_FIELD)
        try:
            with self._source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file)
                try:
                    yield (row for row in reader if row)
                except csv.Error as error:
                    raise LnmtError(
                        f"not CSV: {error}",
                        where=f"{self._source}, line {reader.line_num}",
                        fix="close the quote there",
                    ) from error
        finally:
            csv.field_size_limit(limit)


class JsonRows:
    """One JSON object a line, UTF-8. Columns are the keys of all lines; those of mixed or nested values hold JSON."""

    def __init__(self, source: Path) -> None:
        import pyarrow as pa

        self._source = source
        kinds: dict[str, str] = {}
        self.total, found = 0, False
        for line in self._lines():
            self.total += 1
            row, _ = parse_object(line)
            found = found or row is not None
            for name, value in (row or {}).items():
                kinds[name] = merge_kinds(kinds.get(name, "null"), kind_of(value))
        if not found:
            raise LnmtError(
                "the file holds no JSON object", where=source, value=f"{self.total} lines", fix="one object a line"
            )
        types = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
        self.schema = pa.schema(
            [
                pa.field(name, types.get(kind, pa.string()), metadata=JSON if kind == "json" else None)
                for name, kind in kinds.items()
            ]
        )

    def read(self, text_column: str, size: int, skip: int) -> Iterator[Rows]:
        import pyarrow as pa

        lines = islice(self._lines(), skip, None)
        while chunk := list(islice(lines, size)):
            parsed = [parse_object(line) for line in chunk]
            checked = [check_text((row or {}).get(text_column), problem) for row, problem in parsed]
            columns = [
                pa.array([_cell((row or {}).get(field.name), field) for row, _ in parsed], field.type)
                for field in self.schema
            ]
            table = pa.table(columns, schema=self.schema)
            yield Rows(table, [text for text, _ in checked], [problem for _, problem in checked])

    def _lines(self) -> Iterator[bytes]:
        with self._source.open("rb") as file:
            yield from (line for line in file if line.strip())


class ParquetRows:
    """Parquet, with its own types."""

    def __init__(self, source: Path) -> None:
        import pyarrow.parquet as pq

        self._source = source
        with self._explained(), pq.ParquetFile(source) as file:
            self.schema = file.schema_arrow.remove_metadata()
            self.total = file.metadata.num_rows

    def read(self, text_column: str, size: int, skip: int) -> Iterator[Rows]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        kind = self.schema.field(text_column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise LnmtError(
                f"column {text_column!r} holds no text",
                where=self._source,
                value=str(kind),
                allowed="string",
                fix="name another column, or convert it",
            )
        with self._explained(), pq.ParquetFile(self._source) as file:
            waiting, left = self.schema.empty_table(), skip
            for batch in file.iter_batches(size):
                kept = batch.slice(min(left, batch.num_rows))
                left -= batch.num_rows - kept.num_rows
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([kept]).cast(self.schema)])
                while waiting.num_rows >= size:
                    yield _whole(waiting.slice(0, size), pc.cast(waiting[text_column].slice(0, size), pa.string()))
                    waiting = waiting.slice(size)
            if waiting.num_rows:
                yield _whole(waiting, pc.cast(waiting[text_column], pa.string()))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise LnmtError(
                f"not Parquet, or damaged: {str(error).splitlines()[0]}", where=self._source, fix="write the file again"
            ) from error


def repair(value: str) -> tuple[str, bool]:
    """Text without lone surrogates, and whether there were any: they stand for bytes that are not UTF-8."""
    if value.isascii():
        return value, False
    try:
        value.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value), True
    return value, False


def parse_object(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """The object of a line, or why there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    if not isinstance(row, dict):
        return None, f"not a JSON object but {kind_of(row)}"
    return row, None


def kind_of(value: Any) -> str:
    """null, bool, int, float, string, or json for what no column type holds."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "json"
    return {float: "float", str: "string"}.get(type(value), "json")


def merge_kinds(one: str, other: str) -> str:
    """The kind of a column that holds both."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    return "float" if {one, other} == {"int", "float"} else "json"


def check_text(value: Any, problem: str | None) -> tuple[str | None, str | None]:
    """The text to answer, or why there is none."""
    if problem is not None:
        return None, problem
    if value is None:
        return None, "no text: null"
    if not isinstance(value, str):
        return None, f"not text but {kind_of(value)}"
    if not value.strip():
        return None, "no text: empty"
    if repair(value)[1]:
        return None, "not valid Unicode: a lone surrogate"
    return value, None


def _whole(table: pa.Table, texts: Any) -> Rows:
    checked = [check_text(text, None) for text in texts.to_pylist()]
    return Rows(table.combine_chunks(), [text for text, _ in checked], [problem for _, problem in checked])


def _cell(value: Any, field: pa.Field) -> Any:
    if field.metadata == JSON:
        return None if value is None else repair(json.dumps(value, ensure_ascii=False))[0]
    return repair(value)[0] if isinstance(value, str) else value
