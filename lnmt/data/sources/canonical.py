"""The source's columns → `id`, `text`, `label` and the slices, all strings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc

from lnmt.data.sources.source import Part
from lnmt.data.tables import table_schema
from lnmt.errors import LnmtError
from lnmt.params import Bin
from lnmt.types import ID, LABEL, TEXT

NOT_A_LABEL = ("nan", "NaN", "NAN")
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)


def canonical_batches(
    part: Part,
    prefix: str,
    bins: Sequence[Bin] | None,
    slices: Sequence[str],
    limit: int | None,
    *,
    empty_labels: bool = False,
) -> Iterator[pa.RecordBatch]:
    """The part's rows with the schema `table_schema(slices)`, `limit` at most. Raises LnmtError where it has none.

    Ids are `prefix/ID`, or `prefix/#ROW` (from 1) where a row has none; a slice that the part lacks is null.
    Lists of labels are JSON lists. An empty label is null, unless `empty_labels`: then it says that there is none.
    """
    nothing = pa.array(NOT_A_LABEL if empty_labels else ("", *NOT_A_LABEL))
    schema = table_schema(slices)
    columns = part.wanted.columns
    done = 0
    # Closed at once, also where the limit ends it early: files and connections do not wait for the collector.
    with closing(part.read(part.wanted)) as batches:
        for batch in batches:
            if limit is not None:
                batch = batch.slice(0, limit - done)
            given = {
                name: _as_text(batch.column(name), name, part.name, lists=name == columns.label)
                for name in batch.schema.names
            }
            if columns.label is None:
                labels = pa.nulls(batch.num_rows, pa.string())
            else:
                labels = given[columns.label]
                labels = pc.if_else(pc.is_in(labels, nothing), None, labels)
            values = {
                ID: _ids(prefix, given.get(columns.id), done, batch.num_rows),
                TEXT: given[columns.text],
                LABEL: _into_bins(labels, bins) if bins else labels,
            }
            for name in slices:
                if name in part.wanted.set:
                    values[name] = pa.repeat(pa.scalar(part.wanted.set[name], pa.string()), batch.num_rows)
                else:
                    values[name] = given.get(name, pa.nulls(batch.num_rows, pa.string()))
            done += batch.num_rows
            if batch.num_rows:
                yield pa.RecordBatch.from_arrays([values[field.name] for field in schema], schema=schema)
            if done == limit:
                break
    if done == 0:
        raise LnmtError("no rows", where=part.name, fix="fill it, or take it out of `ingest.sources`")


def _ids(prefix: str, ids: pa.Array | None, done: int, rows: int) -> pa.Array:
    numbers = pa.array([f"{prefix}/#{number}" for number in range(done + 1, done + rows + 1)], pa.string())
    if ids is None:
        return numbers
    ids = pc.if_else(pc.equal(ids, ""), None, ids)
    return pc.coalesce(pc.binary_join_element_wise(pa.scalar(prefix), ids, "/"), numbers)


def _into_bins(labels: pa.Array, bins: Sequence[Bin]) -> pa.Array:
    """Labels of numbers. What is no number stays as it is, for validation to say so."""
    bounds = [one for one in bins if one.at_least is not None or one.at_most is not None]
    rest = next(one.label for one in bins if one.at_least is None and one.at_most is None)

    def label(text: str | None) -> str | None:
        try:
            number = float(text) if text is not None else math.nan
        except ValueError:
            return text
        if math.isnan(number):
            return None
        for one in bounds:
            if (one.at_least is None or number >= one.at_least) and (one.at_most is None or number <= one.at_most):
                return one.label
        return rest

    seen = {text: label(text) for text in pc.unique(labels).to_pylist()}
    return pa.array([seen[text] for text in labels.to_pylist()], pa.string())


def _as_text(column: pa.Array, name: str, where: str, *, lists: bool = False) -> pa.Array:
    """Any scalar column as strings; NaN is null, 1.0 is "1". With `lists`, lists of scalars as JSON lists of texts."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if lists and any(check(kind) for check in _LISTS):
        items = iter(_as_text(pc.list_flatten(column), name, where).to_pylist())
        lengths = pc.list_value_length(column).to_pylist()
        rows = [None if length is None else list(islice(items, length)) for length in lengths]
        return pa.array([None if row is None else json.dumps(row, ensure_ascii=False) for row in rows], pa.string())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    simple = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null, pa.types.is_decimal)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_temporal)
    binary = (pa.types.is_binary, pa.types.is_large_binary)
    if not any(check(kind) for check in chain(simple, texts, binary)):
        raise LnmtError(
            f"column {name!r} holds {kind}, not text",
            where=where,
            allowed="text, numbers, true, false, null",
            fix="name another column under `columns`, or flatten the data",
        )
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise LnmtError(
            f"column {name!r} is not UTF-8 text: {error}", where=where, fix="write the file again as UTF-8"
        ) from error
