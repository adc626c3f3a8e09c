"""The `validate` stage: bad rows go to quarantine, a bad table stops the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lnmt.data.tables import count_rows, read_batches, read_schema
from lnmt.data.validation.expectations import Expectations
from lnmt.data.validation.page import render_page
from lnmt.data.validation.result import (
    DataRejected,
    Line,
    rejection,
    result_json,
    row_lines,
    schema_lines,
    table_lines,
)
from lnmt.data.validation.rules import row_rules, schema_rules
from lnmt.data.validation.scan import Places, Scan, scan
from lnmt.data.validation.table import table_rules
from lnmt.errors import LnmtError
from lnmt.files import clear_disk_errors, new_directory, write_bytes, write_json
from lnmt.params import Params, ValidateParams
from lnmt.types import ID, LABEL, TEXT, Task

if TYPE_CHECKING:
    from lnmt.stages import StageIO


def validate(params: Params, io: StageIO) -> None:
    """Judge data/raw by Great Expectations; write data/validated, data/quarantine and a page of the results.

    Raises DataRejected where the columns or the table as a whole fail: then data/validated stays as it was, and
    the page and data/quarantine show why.
    """
    shutil.rmtree(io.work, ignore_errors=True)
    try:
        with clear_disk_errors(io.write("data/validated")):
            _validate(params.validate, params.task, io)
    finally:
        shutil.rmtree(io.work, ignore_errors=True)


def _validate(params: ValidateParams, task: Task, io: StageIO) -> None:
    source = io.read("data/raw")
    judge = Expectations()
    schema = read_schema(source)
    lines, error = _judge_schema(source, schema, judge)
    if error is not None:
        _report(io, task, lines, None, error, judge.version)
        raise error

    with new_directory(io.write("data/quarantine")) as quarantine:
        error = None
        try:
            with (
                new_directory(io.write("data/validated")) as good,
                io.progress.bar("validate", total=count_rows(source)) as bar,
            ):
                rules = row_rules(params, task)
                labels = params.labels or []
                places = Places(good, quarantine, io.work)
                found = scan(source, schema, task, labels, rules, judge, places, bar.advance)
                lines += row_lines(rules, found)
                table, error = _judge_table(found, params, task, judge)
                lines += table
                _report(io, task, lines, found, error, judge.version)
                if error is not None:
                    raise error
                slices = [name for name in schema.names if name not in (ID, TEXT, LABEL)]
                manifest = {"task": task, "labels": labels, "slices": slices, "rows": found.tally.rows}
                write_json(good / "manifest.json", manifest)
        except DataRejected as rejected:
            # data/validated is left alone, but the quarantined rows are published: a person must see them
            error = rejected
    if error is not None:
        raise error


def _judge_schema(source: Path, schema: pa.Schema, judge: Expectations) -> tuple[list[Line], DataRejected | None]:
    """Judge the columns on the first rows; Parquet gives every row of a column the same type."""
    first = next(read_batches(source, batch_rows=1000), None)
    frame = (schema.empty_table() if first is None else pa.Table.from_batches([first])).to_pandas()
    rules = schema_rules(schema.names)
    lines = schema_lines(rules, judge.judge(frame, judge.suite("schema", rules)))
    fix = "name the right columns in params.yaml: ingest.sources columns, then run ingest again"
    return lines, rejection(lines, {line.name: fix for line in lines}, {})


def _judge_table(
    found: Scan, params: ValidateParams, task: Task, judge: Expectations
) -> tuple[list[Line], DataRejected | None]:
    """Judge the figures of the whole table, as a table of one row."""
    import pandas as pd

    rules = table_rules(found, params, task)
    frame = pd.DataFrame({rule.column: [float(rule.observed)] for rule in rules})
    outcomes = judge.judge(frame, judge.suite("table", [rule.rule for rule in rules]))
    lines = table_lines(rules, outcomes)
    return lines, rejection(
        lines, {rule.name: rule.fix for rule in rules}, {rule.name: rule.headline for rule in rules}
    )


def _report(
    io: StageIO, task: Task, lines: list[Line], found: Scan | None, error: LnmtError | None, version: str
) -> None:
    """Write reports/validation: result.json and the page."""
    result = result_json(lines, found, error, version, task)
    with new_directory(io.write("reports/validation")) as report:
        write_json(report / "result.json", result)
        write_bytes(report / "index.html", render_page(result).encode())
