"""What the `label` column says, by task: the cell of a row as a target, and what is wrong with it.

Legend: N = rows, C = labels, W = words of a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lnmt.errors import LnmtError, UnknownName
from lnmt.types import Task

Targets = NDArray[np.int64] | NDArray[np.float32] | list[NDArray[np.int64]]

SEPARATOR = "|"
# What is wrong with a cell: reasons of quarantine, and the text of errors.
MISSING = "label missing"
UNKNOWN = "label outside the set"
MALFORMED = "label is no list of names"
NO_NUMBER = "label is no finite number"
UNKNOWN_TAG = "tag outside the set"
MISCOUNTED = "not one tag for each word"
BROKEN_ORDER = "tags in no BIO order"
_LARGEST = float(np.finfo(np.float32).max)  # a target is a float32
_PREFIXES = ("B-", "I-")
_MEMORY = 100_000  # different cells whose names are kept


def split_words(text: str) -> list[str]:
    """The words that tags stand for: what white space separates."""
    return text.split()


def split_labels(cell: str) -> list[str]:
    """The names in a cell: a JSON list, or joined by `|`; none in an empty one. ValueError for a list of other things.

    White space around a joined name does not count. A name with a `|` of its own needs the JSON list.
    """
    listed = _json_list(cell)
    if listed is not None:
        return listed
    return [name.strip() for name in cell.split(SEPARATOR)] if cell.strip() else []


def split_tags(cell: str) -> list[str]:
    """The tags in a cell: a JSON list, or joined by white space. ValueError for a list of other things."""
    listed = _json_list(cell)
    return cell.split() if listed is None else listed


def join_names(names: Sequence[str]) -> str:
    """The cell that holds these names, as a JSON list."""
    return json.dumps(list(names), ensure_ascii=False)


def parse_number(cell: str) -> float:
    """The number in a cell, one that float32 can hold. Raises ValueError for anything else."""
    # Python alone reads 1_000 as a number; nan is no less than anything.
    number = float("nan") if "_" in cell else float(cell)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"no finite float32: {cell!r}")
    return number


def order_problem(tags: Sequence[str]) -> int | None:
    """The place of the first tag that breaks the BIO order, or None: `I-X` follows `B-X` or `I-X`.

    Source: Ramshaw & Marcus, Text Chunking using Transformation-Based Learning, 1995 (the variant called IOB2).
    """
    before = ""
    for place, tag in enumerate(tags):
        if tag.startswith("I-") and not (before.startswith(_PREFIXES) and before[2:] == tag[2:]):
            return place
        before = tag
    return None


def cell_names(value: str, task: Task) -> list[str]:
    """The names of the label set that a cell holds, as they are counted. ValueError as `split_labels` raises it."""
    if task == "multi-label-classification":
        return list(dict.fromkeys(split_labels(value)))
    if task == "token-classification":
        return split_tags(value)
    return [value] if task == "text-classification" else []


def foreign_names(value: str, task: Task, known: Collection[str]) -> list[str]:
    """What in a cell is outside the set `known`, each once; of a regression's cell all of it, where it is no number."""
    if cell_problem(value, None, task, known) == NO_NUMBER:
        return [value]
    try:
        return [name for name in dict.fromkeys(cell_names(value, task)) if name not in known]
    except ValueError:
        return [value]


def label_codes(cells: pa.Array, task: Task) -> NDArray[np.uint32]:
    """A number [N] for each cell, equal where two say the same: `a|b` and `["b", "a"]`, `1` and `1.0`."""
    different = cells.dictionary_encode()
    codes = [crc32(_meaning(cell, task).encode("utf-8", "surrogatepass")) for cell in different.dictionary.to_pylist()]
    # null cells have the place -1, which is that of the number after all others
    places = pc.fill_null(different.indices, -1).to_numpy(zero_copy_only=False)
    found: NDArray[np.uint32] = np.array([*codes, 0], dtype=np.uint32)[places]
    return found


def _meaning(cell: str, task: Task) -> str:
    """The same text for cells that say the same; a malformed one stands for itself."""
    try:
        if task == "text-regression":
            return repr(parse_number(cell))
        names = cell_names(cell, task)
    except ValueError:
        return cell
    return "\0".join(sorted(names) if task == "multi-label-classification" else names)


def cell_problem(value: str | None, text: str | None, task: Task, known: Collection[str]) -> str | None:
    """What is wrong with a row's label, one of the reasons above; None for a good one. `known` is the label set.

    A null text has no words to count, and is judged by other rules.
    """
    if task == "text-generation":
        return None
    if value is None:
        return MISSING
    try:
        if task == "text-regression":
            parse_number(value)
            return None
        names = cell_names(value, task)
    except ValueError:
        return NO_NUMBER if task == "text-regression" else MALFORMED
    if task != "token-classification":
        return None if all(name in known for name in names) else UNKNOWN
    if not all(name in known for name in names):
        return UNKNOWN_TAG
    if text is not None and len(split_words(text)) != len(names):
        return MISCOUNTED
    return None if order_problem(names) is None else BROKEN_ORDER


def parse_labels(
    values: Sequence[str | None], ids: Sequence[str], task: Task, labels: Sequence[str], *, where: object
) -> Targets:
    """The cells [N] of the `label` column as targets.

    text-classification: places in `labels`, int64 [N]. multi-label-classification: 1 where a row has the label,
    float32 [N, C]. text-regression: float32 [N]. token-classification: an int64 array [W] for each row, with the
    place of each word's tag; `check_words` holds it to the text. text-generation: an empty int64 array [0].

    Raises UnknownName for a name outside `labels`, LnmtError for a cell that is missing or malformed; both name
    the row by `ids` and the table by `where`.
    """
    if task == "text-generation":
        return np.empty(0, np.int64)
    if task == "text-classification":
        return _classes(values, ids, labels, where)
    parse: Callable[[str], Any]
    if task == "text-regression":
        parse = parse_number
    else:
        places = {name: place for place, name in enumerate(labels)}
        parse = partial(_places, places=places, task=task)
    rows = list(_each(values, ids, parse, task, labels, where))
    if task == "text-regression":
        return np.array(rows, dtype=np.float32)
    if task == "token-classification":
        return rows
    hot = np.zeros((len(rows), len(labels)), dtype=np.float32)
    hot[np.repeat(np.arange(len(rows)), [len(row) for row in rows]), np.concatenate([np.empty(0, np.int64), *rows])] = 1
    return hot


def check_words(
    targets: Sequence[NDArray[np.int64]], texts: Sequence[str], ids: Sequence[str], *, where: object
) -> None:
    """Raise LnmtError, naming the row, where a text has more or fewer words than it has tags."""
    for target, text, name in zip(targets, texts, ids, strict=True):
        words = split_words(text)
        if len(words) != len(target):
            raise LnmtError(
                f"a row has {len(words)} words and {len(target)} tags",
                where=where,
                value=f"row {name}: {text[:80]!r}",
                allowed="one tag for each word; white space separates words",
                fix="run validation, which quarantines such rows: dvc repro validate process",
            )


def _classes(
    values: Sequence[str | None], ids: Sequence[str], labels: Sequence[str], where: object
) -> NDArray[np.int64]:
    found = pc.index_in(pa.array(values, pa.string()), value_set=pa.array(labels, pa.string()))
    if found.null_count:
        place = pc.index(pc.is_null(found), True).as_py()
        raise _problem(values[place], ids[place], "text-classification", labels, where)
    targets: NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return targets


def _places(cell: str, places: dict[str, int], task: Task) -> NDArray[np.int64]:
    """Places of the cell's names; KeyError for an unknown one."""
    return np.array([places[name] for name in cell_names(cell, task)], dtype=np.int64)


def _each(
    values: Sequence[str | None],
    ids: Sequence[str],
    parse: Callable[[str], Any],
    task: Task,
    labels: Sequence[str],
    where: object,
) -> Iterator[Any]:
    """Each cell parsed; equal cells once, since most tables repeat them."""
    seen: dict[str, Any] = {}
    for value, name in zip(values, ids, strict=True):
        if value is None:
            raise _problem(value, name, task, labels, where)
        if value not in seen:
            if len(seen) == _MEMORY:
                seen.clear()
            try:
                seen[value] = parse(value)
            except (KeyError, ValueError) as error:
                raise _problem(value, name, task, labels, where) from error
        yield seen[value]


def _problem(value: str | None, name: str, task: Task, labels: Sequence[str], where: object) -> LnmtError:
    """The error for a cell that cannot be parsed."""
    reason = cell_problem(value, None, task, labels)
    if value is not None and reason in (UNKNOWN, UNKNOWN_TAG):
        unknown = next(one for one in cell_names(value, task) if one not in labels)
        kind = "tag" if reason == UNKNOWN_TAG else "label"
        return UnknownName(kind, unknown, labels, where=f"{where}, row {name}")
    return LnmtError(
        "a row has no label" if value is None else str(reason),
        where=where,
        value=f"row {name}" if value is None else f"row {name}: {value[:80]!r}",
        allowed={
            "text-classification": "one name of the label set",
            "multi-label-classification": f"names joined by {SEPARATOR!r}, or a JSON list of names",
            "text-regression": "a finite number",
            "token-classification": "one tag for each word, separated by white space, or a JSON list of tags",
        }[task],
        fix="run validation, which quarantines such rows: dvc repro validate process",
    )


def _json_list(cell: str) -> list[str] | None:
    """The names of a JSON list, numbers and truth values as they are written; None where the cell is no JSON list."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        listed = json.loads(cell, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError:
        return None  # a tag such as [UNK] may open and close the cell
    except RecursionError as error:
        raise ValueError("lists in lists in lists") from error
    names = [str(one).lower() if isinstance(one, bool) else one for one in listed]
    if not all(isinstance(one, str) for one in names):
        raise ValueError(f"no list of names: {cell}")
    "".join(names).encode()  # raises on halves of surrogate pairs, which no report can hold
    return names
