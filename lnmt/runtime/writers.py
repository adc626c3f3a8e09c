"""Arrow tables of one schema → one CSV, JSON Lines or Parquet file, as they come."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.runtime.rows import JSON

if TYPE_CHECKING:
    import pyarrow as pa

Writer = Callable[[Path, "pa.Schema", "Iterable[pa.Table]"], None]


def table_writer(target: Path) -> Writer:
    """The writer for the ending of `target`. Raises LnmtError for another ending."""
    writers: dict[str, Writer] = {
        ".csv": write_csv,
        ".jsonl": write_jsonl,
        ".ndjson": write_jsonl,
        ".parquet": write_parquet,
    }
    writer = writers.get(target.suffix.lower())
    if writer is None:
        raise LnmtError(
            "unknown kind of file to write",
            where=target,
            value=target.suffix or "no ending",
            allowed=", ".join(writers),
            fix="name a file with one of these endings",
        )
    return writer


def write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """With the schema's types; columns of mixed JSON values become text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = pa.schema([field.remove_metadata() if field.metadata == JSON else field for field in schema])
    with pq.ParquetWriter(path, plain) as writer:
        for table in tables:
            columns = [
                pa.array([_text(value) for value in table[field.name].to_pylist()], pa.string())
                if field.metadata == JSON
                else table[field.name]
                for field in schema
            ]
            writer.write_table(pa.table(columns, schema=plain))


def write_jsonl(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """One object a line; NaN and infinity, which JSON has not, become null."""
    nested = [field.name for field in schema if field.metadata == JSON]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            for row in table.to_pylist():
                row.update({name: json.loads(row[name]) for name in nested if row[name] is not None})
                file.write(json.dumps(_finite(row), ensure_ascii=False, default=str) + "\n")


def write_csv(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Null as an empty field, true and false in lower case, nested values as JSON."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema.names)
        for table in tables:
            columns = [
                [_text(value) for value in table[field.name].to_pylist()]
                if field.metadata == JSON
                else table[field.name].to_pylist()
                for field in schema
            ]
            writer.writerows([_field(value) for value in row] for row in zip(*columns, strict=True))


def _text(value: str | None) -> str | None:
    """JSON as text: a string without its quotes, anything else as it stands."""
    return json.loads(value) if value is not None and value.startswith('"') else value


def _field(value: Any) -> Any:
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
