"""CSV and TSV: parsed by pyarrow, strictly; explained by a second look where it fails."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from lnmt.data.sources.compressed import plain_stream, text_lines
from lnmt.data.sources.source import Wanted
from lnmt.errors import LnmtError
from lnmt.params import Csv

BLOCK_BYTES = 4 * 2**20  # the longest row that can be read; the parser holds up to some thirty blocks


def read_csv(path: Path, options: Csv | None, encoding: str, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """The wanted columns as strings; every row has as many fields as the header. `options` None: by the ending."""
    if options is None:
        tabs = {".tsv", ".tab"} & {suffix.lower() for suffix in path.suffixes}
        options = Csv(delimiter="\t" if tabs else ",", header=None, quote='"')
    header = options.header or _first_record(path, options, encoding)
    if header is None:
        raise LnmtError("the file is empty", where=path, fix="fill it, or take it out of `ingest.sources`")
    columns = wanted.choose(header, path)
    try:
        with plain_stream(path) as stream:
            reader = arrow_csv.open_csv(
                stream,
                # Threads would lose the number of a bad row and hold more blocks at once.
                arrow_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, encoding=encoding, column_names=options.header
                ),
                arrow_csv.ParseOptions(
                    delimiter=options.delimiter,
                    quote_char=options.quote or False,
                    newlines_in_values=options.quote is not None,
                ),
                arrow_csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string())),
            )
            yield from reader
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _explain(path, options, encoding, len(header), error) from error


def _first_record(path: Path, options: Csv, encoding: str) -> list[str] | None:
    """The names in the first line, None where there is no line."""
    with _records(path, options, encoding) as records:
        return next((record for _, record in records if record), None)


def _explain(path: Path, options: Csv, encoding: str, expected: int, error: Exception) -> LnmtError:
    """Read the file once more with the standard library, which knows lines and offsets."""
    place: object = path
    try:
        with _records(path, options, encoding) as records:
            for line, record in records:
                if record and len(record) != expected:
                    return LnmtError(
                        "a row has another number of fields than the header",
                        where=f"{path}, line {line}",
                        value=f"{len(record)} fields: {options.delimiter.join(record)[:120]!r}",
                        allowed=f"{expected} fields",
                        fix="quote the fields that hold the delimiter, or set `csv.delimiter` and `csv.quote` "
                        "to what the file has",
                    )
                place = f"{path}, after line {line}"
    except LnmtError as explained:  # the bytes do not fit the encoding
        return explained
    except csv.Error as problem:
        return LnmtError(
            f"the CSV cannot be parsed: {problem}",
            where=place,
            fix="close the quote, or set `csv.quote` to null where quotes are plain characters",
        )
    return LnmtError(
        f"the CSV cannot be parsed: {error}",
        where=path,
        allowed=f"rows of at most {BLOCK_BYTES} bytes",
        fix="mend the row; an unclosed quote swallows all rows after it (`csv.quote: null` makes quotes plain)",
    )


@contextmanager
def _records(path: Path, options: Csv, encoding: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The line a record starts at, from 1, and its fields; fields of any length."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(
            text_lines(path, encoding),
            delimiter=options.delimiter,
            quotechar=options.quote,
            quoting=csv.QUOTE_NONE if options.quote is None else csv.QUOTE_MINIMAL,
            strict=True,
        )
        yield _numbered(reader)
    finally:
        csv.field_size_limit(limit)


def _numbered(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    line = 1
    for record in reader:
        yield line, record
        line = reader.line_num + 1  # type: ignore[attr-defined]
