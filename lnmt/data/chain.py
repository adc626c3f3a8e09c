"""`process.processors` as steps over a stream of record batches: text processors row by row, table processors whole.

Legend: N = rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from lnmt.data.labels import split_tags, split_words
from lnmt.data.table_processors import TABLE_PROCESSORS, Bench, Rows, TableProcessor
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import Plugin
from lnmt.text.processors import PROCESSORS, BaseProcessor, make
from lnmt.types import ID, LABEL, TEXT, Task

MAX_REWORDED_SHARE = 0.05  # of the rows of token-classification; a processor that rewords more is the wrong one


@dataclass
class TextStep:
    """A text processor over batches; `report["dropped"]` counts the rows that its `validate` refused.

    In token-classification a row whose number of words it changed is dropped too, since its tags no longer fit:
    `report["reworded"]` counts these. Above MAX_REWORDED_SHARE of the rows it is an LnmtError that shows one.
    """

    plugin: Plugin
    where: str  # its place in params.yaml
    processor: BaseProcessor
    report: dict[str, Any] = field(default_factory=lambda: {"dropped": 0})

    def run(self, rows: Rows, bench: Bench) -> Rows:
        """The rows it keeps, with their new text."""
        changes = type(self.processor).process is not BaseProcessor.process
        judges = type(self.processor).validate is not BaseProcessor.validate
        reworded = _Reworded() if changes and bench.task == "token-classification" else None
        for batch in rows:
            before: list[str] = batch.column(TEXT).to_pylist()
            texts = list(before)
            keep = [True] * len(texts)
            place = 0
            try:
                if changes:
                    for place, text in enumerate(texts):
                        texts[place] = _text(self.processor.process(text))
                if judges:
                    for place, text in enumerate(texts):
                        keep[place] = self.processor.validate(text)
            except Exception as error:  # whatever a plugin raises, the row must be named
                raise LnmtError(
                    f"processor {self.plugin.name!r} failed: {type(error).__name__}: {error}",
                    where=self.where,
                    value=f"row {batch.column(ID)[place].as_py()!r}: {str(texts[place])[:80]!r}",
                    allowed="process(str) → str and validate(str) → bool, for every text",
                    fix="mend the processor, or put a filter before it",
                ) from error
            if reworded is not None:
                reworded.refuse(batch.column(ID).to_pylist(), before, texts, keep)
            if changes:
                column = pa.array(texts, pa.string())
                batch = batch.set_column(batch.schema.get_field_index(TEXT), bench.schema.field(TEXT), column)
            if not all(keep):
                self.report["dropped"] += keep.count(False)
                batch = batch.filter(pa.array(keep))
            if batch.num_rows:
                yield batch
        if reworded is not None:
            self.report["reworded"] = reworded.rows
            reworded.check(self.plugin.name, self.where)


@dataclass
class _Reworded:
    """Rows of token-classification whose number of words a processor changed."""

    rows: int = 0
    of: int = 0
    example: str = ""

    def refuse(self, ids: Sequence[str], before: Sequence[str], after: Sequence[str], keep: list[bool]) -> None:
        """Mark them in `keep`; those that are dropped anyway do not count."""
        self.of += len(before)
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            if keep[place] and old != new and len(split_words(old)) != len(split_words(new)):
                keep[place] = False
                self.rows += 1
                self.example = self.example or f"row {ids[place]!r}: {old[:80]!r} → {new[:80]!r}"

    def check(self, name: str, where: str) -> None:
        """Raise LnmtError where they are too many."""
        if self.rows > MAX_REWORDED_SHARE * self.of:
            raise LnmtError(
                f"processor {name!r} changed the number of words in {self.rows:,} of {self.of:,} rows",
                where=where,
                value=self.example,
                allowed=f"as many words as tags; at most {MAX_REWORDED_SHARE:.0%} of the rows are dropped for it",
                fix="take the processor out, or let it leave the white space between words as it is",
            )


def _text(value: object) -> str:
    """`value`, where it is a text that can be stored."""
    if not isinstance(value, str):
        raise TypeError(f"it gave {type(value).__name__}, not str")
    if not value.isascii():
        value.encode()  # raises on lone surrogates, which no file can hold
    return value


@dataclass
class TableStep:
    """A table processor, held to giving the columns it was given, and in token-classification a tag for each word."""

    plugin: Plugin
    where: str
    processor: TableProcessor
    report: dict[str, Any] = field(default_factory=dict)

    def run(self, rows: Rows, bench: Bench) -> Rows:
        """The processor's rows."""
        bench.report = self.report
        for batch in self.processor.run(rows, bench):
            if not batch.schema.equals(bench.schema):
                raise LnmtError(
                    f"processor {self.plugin.name!r} gave other columns than it was given",
                    where=self.where,
                    value=", ".join(f"{one.name}: {one.type}" for one in batch.schema),
                    allowed=", ".join(f"{one.name}: {one.type}" for one in bench.schema),
                    fix="keep names, order and types; it may change rows, not columns",
                )
            if bench.task == "token-classification":
                self._check_words(batch)
            if batch.num_rows:
                yield batch

    def _check_words(self, batch: pa.RecordBatch) -> None:
        rows = zip(*(batch.column(name).to_pylist() for name in (ID, TEXT, LABEL)), strict=True)
        for name, text, cell in rows:
            if len(split_words(text)) != len(split_tags(cell)):
                raise LnmtError(
                    f"processor {self.plugin.name!r} gave a row of {len(split_words(text))} words and "
                    f"{len(split_tags(cell))} tags",
                    where=self.where,
                    value=f"row {name!r}: {text[:80]!r}, {cell[:80]!r}",
                    allowed="one tag for each word",
                    fix="let it change words and tags together, or leave such rows out",
                )


@dataclass(frozen=True)
class Chain:
    """The steps before the split, and those on the training rows after it."""

    before: tuple[TextStep | TableStep, ...]
    after: tuple[TableStep, ...]

    @property
    def text(self) -> list[Plugin]:
        """The text processors alone: what serving applies."""
        return [step.plugin for step in self.before if isinstance(step, TextStep)]

    def reports(self) -> list[dict[str, Any]]:
        """Name and figures of each step, in order."""
        return [{"name": step.plugin.name, **step.report} for step in (*self.before, *self.after)]


def make_chain(plugins: Sequence[Plugin], task: Task) -> Chain:
    """Look the names up in both tables and make the steps.

    Raises UnknownName with the nearest name of either table, LnmtError for options that do not fit, an order
    that cannot be, or a table processor that cannot work on the rows of `task`.
    """
    before: list[TextStep | TableStep] = []
    after: list[TableStep] = []
    for index, plugin in enumerate(plugins):
        step = _step(plugin, f"params.yaml: process.processors[{index}]")
        if isinstance(step, TableStep) and task not in step.processor.tasks:
            raise LnmtError(
                f"processor {plugin.name!r} cannot work on rows of {task}",
                where=step.where,
                allowed=", ".join(step.processor.tasks),
                fix="take it out of process.processors",
            )
        if isinstance(step, TableStep) and step.processor.train_only:
            after.append(step)
        elif after:
            raise LnmtError(
                f"processor {plugin.name!r} comes after {after[-1].plugin.name!r}, which sees the training rows alone",
                where=step.where,
                allowed="training-only processors last",
                fix=f"move {after[-1].plugin.name!r} to the end of process.processors",
            )
        else:
            before.append(step)
    return Chain(tuple(before), tuple(after))


def _step(plugin: Plugin, where: str) -> TextStep | TableStep:
    texts, tables = PROCESSORS.names(), TABLE_PROCESSORS.names()
    if plugin.name not in texts and plugin.name not in tables:
        raise UnknownName("processor", plugin.name, {*texts, *tables}, where=where)
    if plugin.name in texts and plugin.name in tables:
        raise LnmtError(
            f"processor {plugin.name!r} is registered as a text and as a table processor",
            where=where,
            fix="give one of them another name",
        )
    if plugin.name in tables:
        return TableStep(plugin, where, make(TABLE_PROCESSORS.get(plugin.name), plugin, where=where))
    return TextStep(plugin, where, make(PROCESSORS.get(plugin.name), plugin, where=where))


def run_steps(steps: Sequence[TextStep | TableStep], rows: Rows, bench: Bench) -> Rows:
    """The rows after all steps; nothing runs until they are asked for. Each table step works below `bench.work`."""
    for index, step in enumerate(steps):
        own = replace(bench, work=bench.work / f"{index:02d}", report={})
        own.work.mkdir(parents=True)
        rows = step.run(rows, own)
    return rows
