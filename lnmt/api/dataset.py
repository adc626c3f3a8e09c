"""`lnmt.Dataset`: texts with their labels, as a value.

Legend: N = rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from lnmt.api.names import as_plugin, as_task
from lnmt.api.rows import Asked, check_rows, found_labels
from lnmt.data.sources.canonical import canonical_batches
from lnmt.data.sources.files import read_file
from lnmt.data.sources.source import Part
from lnmt.data.split import LEARNT, Splitter
from lnmt.data.tables import ROWS_PER_FILE, ShardWriter, table_schema
from lnmt.errors import LnmtError
from lnmt.params import Columns, Csv, Plugin, SplitShares
from lnmt.types import LABEL, TEXT, Task

SCHEMA = table_schema(())  # id, text, label
SALT = "lnmt"  # as the shipped process.salt


class Splits(NamedTuple):
    """What `Dataset.split` gives: `train, validation, test = dataset.split()`."""

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class Dataset:
    """Texts with their labels; it does not change.

    `label` says what it says in the pipeline (docs/reference/python.md), by `task`. Every row is
    checked when the data set is made.

    >>> data = Dataset.from_rows(["a fine film", "a dull film"], ["good", "bad"])
    >>> len(data), data.labels
    (2, ('bad', 'good'))
    >>> data.process("whitespace").texts[0]
    'a fine film'
    """

    table: pa.Table  # columns id, text, label: strings [N]
    task: Task
    labels: tuple[str, ...]  # the label set; none for text-regression and text-generation
    processors: tuple[Plugin, ...] = field(default=())  # that made the texts what they are; a model keeps them

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        text: str = "text",
        label: str | None = "label",
        id: str | None = None,  # noqa: A002  # the column's role, as in params.yaml
        task: Task = "text-classification",
        labels: Sequence[str] | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
    ) -> Dataset:
        """The rows of a CSV or TSV file whose first line names the columns; .gz and .zst are read too.

        `text`, `label` and `id` are the file's names of the columns; `label=None` for text-generation.
        `labels`: the label set, None for the names that are found. Raises LnmtError for a row that
        cannot be used, and UnknownName for a column that is not there.

        >>> Dataset.from_csv("reviews.csv", text="review", label="mood").labels
        ('negative', 'positive')
        """
        csv = None if delimiter is None else Csv(delimiter=delimiter, header=None, quote='"')
        return cls._from_file(path, "csv", Columns(text=text, label=label, id=id), task, labels, csv, encoding)

    @classmethod
    def from_jsonl(
        cls,
        path: str | Path,
        *,
        text: str = "text",
        label: str | None = "label",
        id: str | None = None,  # noqa: A002
        task: Task = "text-classification",
        labels: Sequence[str] | None = None,
        encoding: str = "utf-8",
    ) -> Dataset:
        """The rows of a file with one JSON object a line; otherwise as `from_csv`. A label may be a list.

        >>> Dataset.from_jsonl("tickets.jsonl", task="multi-label-classification").labels
        ('invoice', 'urgent')
        """
        return cls._from_file(path, "jsonl", Columns(text=text, label=label, id=id), task, labels, None, encoding)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        text: str = "text",
        label: str | None = "label",
        id: str | None = None,  # noqa: A002
        task: Task = "text-classification",
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """The rows of a Parquet file; otherwise as `from_csv`. A label may be a list.

        >>> len(Dataset.from_parquet("scores.parquet", label="score", task="text-regression"))
        3
        """
        return cls._from_file(path, "parquet", Columns(text=text, label=label, id=id), task, labels, None, "utf-8")

    @classmethod
    def from_rows(
        cls,
        texts: Sequence[str],
        targets: Sequence[Any] | None = None,
        *,
        ids: Sequence[str] | None = None,
        task: Task = "text-classification",
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Rows from lists: `targets` are names, lists of names or tags, or numbers, by `task`; none for generation."""
        from lnmt.data.sources.rows import as_label

        for what, given in (("targets", targets), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise LnmtError(
                    f"not as many {what} as texts", value=f"{len(given)} and {len(texts)}", fix="give one for each text"
                )
        cells = [None] * len(texts) if targets is None else [as_label(one, LABEL, "targets") for one in targets]
        names = [f"#{place}" for place in range(1, len(texts) + 1)] if ids is None else [str(one) for one in ids]
        columns = [pa.array(column, pa.string()) for column in (names, list(texts), cells)]
        return cls._checked(pa.table(columns, schema=SCHEMA), as_task(task), labels, where="rows")

    def __repr__(self) -> str:
        return f"<lnmt.Dataset: {len(self)} rows, {self.task}{', ' if self.labels else ''}{', '.join(self.labels)}>"

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def texts(self) -> list[str]:
        """The texts [N]."""
        texts: list[str] = self.table[TEXT].to_pylist()
        return texts

    @property
    def targets(self) -> list[str | None]:
        """The cells of the label column [N], as the pipeline stores them."""
        cells: list[str | None] = self.table[LABEL].to_pylist()
        return cells

    def split(self, train: float = 0.8, validation: float = 0.1, test: float = 0.1, *, salt: str = SALT) -> Splits:
        """Three data sets with these shares, which sum to 1.

        A row's place follows from its wording and `salt` alone, as in the pipeline's `process`: equal
        wordings stay together, and new rows move no old one. Shares are therefore met on average.

        >>> texts = [f"text number {n}" for n in range(100)]
        >>> parts = Dataset.from_rows(texts, ["even", "odd"] * 50).split(train=0.5, validation=0.25, test=0.25)
        >>> sum(len(part) for part in parts)
        100
        """
        try:
            shares = SplitShares(train=train, validation=validation, test=test)
        except ValueError as error:
            raise LnmtError(
                "shares of a split are in 0…1 and sum to 1",
                where="Dataset.split",
                value={"train": train, "validation": validation, "test": test},
                fix="give three that do: split(train=0.8, validation=0.1, test=0.1)",
            ) from error
        splitter = Splitter(shares, salt)
        codes = splitter.codes(splitter.hashes(self.texts)) if len(self) else np.empty(0, np.uint32)
        parts = (self.table.filter(pa.array(codes == place)) for place in range(len(LEARNT)))
        return Splits(*(replace(self, table=part) for part in parts))

    def process(self, *processors: str | Mapping[str, Any]) -> Dataset:
        """The rows after text processors, each a name or `{"name": …, option: …}`; a model trained on them keeps them.

        Rows that a processor's `validate` refuses are dropped. Raises UnknownName for a processor that no
        table holds, and LnmtError with the row where one fails.

        >>> data = Dataset.from_rows(["  so   much ", "ok"], ["a", "b"])
        >>> data.process("whitespace", {"name": "filter", "min_characters": 3}).texts
        ['so much']
        """
        from lnmt.data.chain import TextStep, run_steps
        from lnmt.data.table_processors import Bench
        from lnmt.text.processors import PROCESSORS, make

        plugins = [as_plugin(one) for one in processors]
        where = "Dataset.process"
        steps = [
            TextStep(plugin, where, make(PROCESSORS.get(plugin.name, where=where), plugin, where=where))
            for plugin in plugins
        ]
        with tempfile.TemporaryDirectory() as work:
            bench = Bench(Path(work), SCHEMA, self.task, self.labels, belongs=lambda text: True)
            table = pa.Table.from_batches(run_steps(steps, iter(self.table.to_batches()), bench), SCHEMA)
        return replace(self, table=table, processors=(*self.processors, *plugins))

    def write(self, directory: Path) -> None:
        """Write the rows as the pipeline keeps a split: Parquet shards."""
        with ShardWriter(directory, SCHEMA, ROWS_PER_FILE) as writer:
            for batch in self.table.to_batches():
                writer.write(batch)

    @classmethod
    def _from_file(
        cls,
        path: str | Path,
        kind: str,
        columns: Columns,
        task: Task,
        labels: Sequence[str] | None,
        csv: Csv | None,
        encoding: str,
    ) -> Dataset:
        path, task = Path(path), as_task(task)
        if (columns.label is None) != (task == "text-generation"):
            raise LnmtError(
                "text-generation has no labels" if columns.label else f"{task} needs labels",
                where=path,
                value=f"label={columns.label!r}",
                fix="pass label=None" if columns.label else "name the column: label=…",
            )
        if not path.is_file():
            raise LnmtError("no such file", where=path, fix="name a file that is there")
        with tempfile.TemporaryDirectory() as work:
            read = partial(_read, path, kind, csv, encoding, Path(work))
            part = Part(str(path), path.stem, None, Asked(columns, ()), read)
            several = task == "multi-label-classification"
            rows = list(canonical_batches(part, path.stem, None, (), None, empty_labels=several))
        return cls._checked(pa.Table.from_batches(rows, SCHEMA), task, labels, where=path)

    @classmethod
    def _checked(cls, table: pa.Table, task: Task, labels: Sequence[str] | None, *, where: object) -> Dataset:
        known = tuple(labels) if labels is not None else found_labels(table, task)
        check_rows(table, task, known, where=where)
        return cls(table, task, known)


def _read(path: Path, kind: str, csv: Csv | None, encoding: str, work: Path, wanted: Any) -> Any:
    return read_file(path, kind, csv, encoding, wanted, work)
