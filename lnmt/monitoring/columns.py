"""Events and labels as columns: rows of JSON → Arrow → rows again, with no Python object per value on the way in.

Arrays are made by Arrow's own JSON reader: `pyarrow.array` and `pyarrow.scalar` import pandas, which the service does
without. Nothing here starts a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.monitoring.events import PredictionEvent
from lnmt.monitoring.feedback import Told

if TYPE_CHECKING:
    import pyarrow as pa


def schema_of(kind: type) -> pa.Schema:
    """The columns of PredictionEvent or Told: its fields, and the labels of scores beside their values."""
    import pyarrow as pa

    numbers = pa.list_(pa.float64())
    flag = pa.bool_()
    types = {"float": pa.float64(), "int": pa.int64(), "bool": flag, "bool | None": flag, "list[float]": numbers}
    named: list[tuple[str, Any]] = []
    for field in fields(kind):
        if field.type == "dict[str, float]":
            named += [("labels", pa.list_(pa.string())), (field.name, numbers)]
        else:
            named.append((field.name, types.get(str(field.type), pa.string())))
    return pa.schema(named)


def parse(rows: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    """A table of JSON objects. Raises ValueError where one does not fit the schema."""
    import pyarrow as pa
    from pyarrow import json

    if not rows:
        return schema.empty_table()
    data = b"\n".join(rows)
    table = json.read_json(
        pa.BufferReader(data),
        read_options=json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )
    return table.select(schema.names)


def unique_events(table: pa.Table) -> pa.Table:
    """Sorted by id; of rows with one id the first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if table.num_rows < 2:
        return table
    table = table.take(pc.sort_indices(table["id"])).combine_chunks()
    ids = table["id"]
    new = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    if pc.all(new).as_py():
        return table
    return pa.concat_tables([table.slice(0, 1), table.slice(1).filter(new)])


def joined_labels(table: pa.Table) -> pa.Table:
    """Sorted by id; one row for each id and label, from the first time to the last."""
    grouped = table.group_by(["id", "label"], use_threads=False).aggregate([("first", "min"), ("last", "max")])
    named = grouped.rename_columns(["id", "label", "first", "last"])
    return named.sort_by([("id", "ascending"), ("label", "ascending")])


def times_of(table: pa.Table, first: str, last: str) -> tuple[float, float]:
    """The earliest and the latest value of two columns of unix seconds."""
    import pyarrow.compute as pc

    return pc.min(table[first]).as_py(), pc.max(table[last]).as_py()


def events_of(table: pa.Table, path: Path) -> Iterator[PredictionEvent]:
    """The events of a segment's rows; `path` is for the error, where they are of another LNMT."""
    table = conform(table, schema_of(PredictionEvent), PredictionEvent, path)
    columns: list[Iterable[Any]] = []
    for field in fields(PredictionEvent):
        if field.name == "scores":
            pairs = zip(_lists(table["labels"]), _lists(table["scores"]), strict=True)
            columns.append(dict(zip(labels, scores, strict=True)) for labels, scores in pairs)
        elif field.type == "list[float]":
            columns.append(_lists(table[field.name]))
        else:
            columns.append(table[field.name].to_pylist())
    for values in zip(*columns, strict=True):
        yield PredictionEvent(*values)


def told_of(table: pa.Table, path: Path) -> Iterator[Told]:
    """What a segment's rows tell; `path` is for the error."""
    table = conform(table, schema_of(Told), Told, path)
    for values in zip(*(column.to_pylist() for column in table.columns), strict=True):
        yield Told(*values)


def conform(table: pa.Table, schema: pa.Schema, kind: type, path: Path) -> pa.Table:
    """A segment of an older LNMT with today's columns: new ones hold nothing, old ones are left out."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    defaults = {field.name: field.default for field in fields(kind)}
    columns = []
    for wanted in schema:
        if wanted.name in table.column_names:
            columns.append(table[wanted.name].cast(wanted.type))
        elif defaults.get(wanted.name, MISSING) is None:
            columns.append(pa.nulls(table.num_rows, wanted.type))
        else:
            raise LnmtError(
                "a segment of the prediction store is of another LNMT version",
                where=path,
                value=f"no column {wanted.name}",
                fix="read it with the version that wrote it",
            )
    return pa.table(columns, schema=schema)


def _lists(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """The values of a column of lists."""
    import pyarrow.compute as pc

    for chunk in column.chunks:
        values = chunk.flatten().to_pylist()
        ends = accumulate(pc.list_value_length(chunk).to_pylist(), initial=0)
        yield from (values[start:end] for start, end in pairwise(ends))
