"""What a label column holds, and which task that makes of it. Read the way `ingest` will read it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lnmt.data.labels import cell_names, cell_problem, parse_number, split_tags, split_words
from lnmt.data.numbers import Numbers
from lnmt.errors import LnmtError
from lnmt.params import FilesSource
from lnmt.types import LABEL, TEXT, Task

MAX_LABELS = 200
FEW_NUMBERS = 20  # ratings and places in a list of labels; more numbers than these, not all whole, are measured
Cells = Iterator[tuple[str | None, str | None]]  # text and label of a row, in batches


@dataclass(frozen=True)
class Look:
    """What a file holds for a task."""

    task: Task
    rows: int
    unlabelled: int  # rows without a label; 0 for text-generation, where none has one
    labels: dict[str, int]  # label or tag → rows that have it, in alphabetical order; {} where the task has no set
    numbers: dict[str, Any]  # of a regression: minimum, maximum, mean, deviation; else {}


def guess_task(path: Path, source: FilesSource) -> Task:
    """The task that the labels themselves tell: lists and measured numbers are seen, the rest are classes.

    Labels joined by `|`, and tags that are no lists, look like classes. Raises LnmtError for lists with an entry
    for each word of their texts: these may be labels or tags.
    """
    different: set[float] = set()
    numbers = lists = tagged = whole = True
    first: str | None = None
    for cells in _batches(path, source, "text-classification"):
        for text, cell in cells:
            if cell is None:
                continue
            first = cell if first is None else first
            number = _number(cell) if numbers else None
            listed = lists and _is_list(cell)
            numbers, lists = number is not None, listed
            if number is not None:
                whole = whole and number.is_integer()
                if len(different) <= MAX_LABELS:
                    different.add(number)
            elif listed:
                tagged = tagged and len(split_tags(cell)) == len(split_words(text or ""))
            else:
                return "text-classification"
    if first is None:
        return "text-classification"
    if lists and tagged:
        raise LnmtError(
            "each list has an entry for every word of its text: these may be tags",
            where=f"{path}, column {source.columns.label!r}",
            value=first[:80],
            allowed="--task token-classification, or --task multi-label-classification",
            fix="say with --task which they are",
        )
    if lists:
        return "multi-label-classification"
    measured = len(different) > (MAX_LABELS if whole else FEW_NUMBERS)
    return "text-regression" if measured else "text-classification"


def read_labels(path: Path, source: FilesSource, task: Task, most_refused: float) -> Look:
    """Count what the label column holds, in bounded memory.

    Raises LnmtError where it holds nothing that the task can learn, or where more than the share `most_refused` of
    the rows have a label that validation would refuse.
    """
    rows = unlabelled = 0
    labels: Counter[str] = Counter()
    numbers = Numbers()
    refused: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for cells in _batches(path, source, task):
        found: list[float] = []
        for text, cell in cells:
            rows += 1
            if task == "text-generation":
                continue
            if cell is None:
                unlabelled += 1
            elif (problem := _problem(cell, text, task)) is not None:
                refused[problem] += 1
                examples.setdefault(problem, cell)
            elif task == "text-regression":
                found.append(parse_number(cell))
            else:
                labels.update(name for name in set(cell_names(cell, task)) if name)
        numbers.add(np.array(found, dtype=np.float64))
        if len(labels) > MAX_LABELS:
            raise _no_classes(path, source, sorted(labels))
    if sum(refused.values()) > most_refused * rows:
        raise _refused(path, source, task, rows, refused, examples)
    _check_enough(path, source, task, labels, numbers)
    summary = numbers.summary()
    figures = {name: summary[name] for name in ("minimum", "maximum", "mean", "deviation") if summary}
    return Look(task, rows, unlabelled, dict(sorted(labels.items())), figures)


def _batches(path: Path, source: FilesSource, task: Task) -> Iterator[Cells]:
    """The file's rows as `ingest` will hand them on."""
    from lnmt.data.sources.canonical import canonical_batches
    from lnmt.data.sources.source import Context, open_source
    from lnmt.progress import Progress

    with TemporaryDirectory() as work:
        context = Context(
            root=path.parent, cache=Path(work), work=Path(work), offline=True, progress=Progress(show=False)
        )
        for part in open_source(source.kind, source, [], context).parts():
            for batch in canonical_batches(
                part, part.prefix, None, [], None, empty_labels=task == "multi-label-classification"
            ):
                yield zip(batch.column(TEXT).to_pylist(), batch.column(LABEL).to_pylist(), strict=True)


def _number(cell: str) -> float | None:
    try:
        return parse_number(cell)
    except ValueError:
        return None


def _is_list(cell: str) -> bool:
    try:
        return cell.startswith("[") and isinstance(json.loads(cell), list)
    except ValueError:
        return False


def _problem(cell: str, text: str | None, task: Task) -> str | None:
    """What validation will say of the label, where every name in it belongs to the set."""
    try:
        names = cell_names(cell, task)
    except ValueError:
        names = []
    return cell_problem(cell, text, task, names)


def _check_enough(path: Path, source: FilesSource, task: Task, labels: Counter[str], numbers: Numbers) -> None:
    where = f"{path}, column {source.columns.label!r}"
    if task == "text-regression" and not numbers.vary:
        raise LnmtError(
            "a regression needs numbers that differ",
            where=where,
            value=f"{numbers.minimum:g} in every row" if numbers.rows else "no number at all",
            fix="name another label column, or another --task",
        )
    if task not in ("text-regression", "text-generation") and len(labels) < 2:
        raise LnmtError(
            f"a {'model of tags' if task == 'token-classification' else 'classifier'} needs at least two labels",
            where=where,
            value=", ".join(labels) or "no label at all",
            fix="name another label column, or add rows of another label",
        )


def _no_classes(path: Path, source: FilesSource, labels: list[str]) -> LnmtError:
    return LnmtError(
        f"more than {MAX_LABELS} different labels: these are no classes",
        where=f"{path}, column {source.columns.label!r}",
        value=", ".join(labels[:5]) + ", …",
        allowed="--task multi-label-classification: names joined by |, or JSON lists; "
        "token-classification: a tag for each word; text-regression: numbers",
        fix="name another label column, or say with --task what these are; "
        "to make classes of numbers, set `bins` in params.yaml as the demo's file does",
    )


def _refused(
    path: Path, source: FilesSource, task: Task, rows: int, refused: Counter[str], examples: dict[str, str]
) -> LnmtError:
    reason, most = refused.most_common(1)[0]
    return LnmtError(
        f"{most:,} of {rows:,} rows cannot be used for {task}: {reason}",
        where=f"{path}, column {source.columns.label!r}",
        value=examples[reason][:80],
        allowed={
            "multi-label-classification": "names joined by |, or a JSON list of names",
            "text-regression": "finite numbers",
            "token-classification": "one tag for each white-space-separated word, in BIO order",
        }[task],
        fix="mend these rows, name another label column, or another --task",
    )
