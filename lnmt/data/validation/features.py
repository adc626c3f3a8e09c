"""What the row rules look at, computed from Arrow columns; a loop in Python only for labels that are no plain name.

Legend: N = rows of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lnmt.data.labels import cell_problem
from lnmt.types import ID, LABEL, TEXT, Task

CHARACTERS, LETTER_SHARE, REPLACEMENT_SHARE = "characters", "letter_share", "replacement_share"
LABEL_PROBLEM = "label_problem"

# U+FFFD, control characters, and UTF-8 that was read as Windows-1252 (é → Ã©, ’ → â€™)
_REPLACEMENTS = r"[\x{FFFD}\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F]|[ÃÂ][\x{A0}-\x{BF}]|â€"
_NOT_LETTERS = r"[^\pL\pM]+"
_SCRIPTS = {
    name: rf"[^{classes}]+"
    for name, classes in {
        "Latin": r"\p{Latin}",
        "Cyrillic": r"\p{Cyrillic}",
        "Greek": r"\p{Greek}",
        "Arabic": r"\p{Arabic}",
        "Hebrew": r"\p{Hebrew}",
        "Devanagari": r"\p{Devanagari}",
        "Thai": r"\p{Thai}",
        "Hangul": r"\p{Hangul}",
        "Han and kana": r"\p{Han}\p{Hiragana}\p{Katakana}",
    }.items()
}
_SCRIPT_SAMPLE = 2000


def row_features(batch: pa.RecordBatch, task: Task, known: Collection[str]) -> pa.RecordBatch:
    """id, text, label and, of each text: characters (outer white space left out), shares of letters and of damage.

    Null texts have null features; the shares of an empty text are null. The label's problem (`lnmt.data.labels`,
    with the label set `known`) is null where there is none, and for text-classification, whose labels stand as
    they are.
    """
    text = batch.column(TEXT)
    trimmed = pc.utf8_trim_whitespace(text)
    characters = pc.utf8_length(trimmed)
    some = pc.if_else(pc.greater(characters, 0), characters, None)
    letters = pc.utf8_length(pc.replace_substring_regex(trimmed, _NOT_LETTERS, ""))
    replacements = pc.count_substring_regex(trimmed, _REPLACEMENTS)
    return pa.RecordBatch.from_arrays(
        [
            batch.column(ID),
            text,
            batch.column(LABEL),
            characters,
            pc.divide(pc.cast(letters, pa.float64()), some),
            pc.divide(pc.cast(replacements, pa.float64()), some),
            _label_problems(batch, task, known),
        ],
        names=[ID, TEXT, LABEL, CHARACTERS, LETTER_SHARE, REPLACEMENT_SHARE, LABEL_PROBLEM],
    )


def _label_problems(batch: pa.RecordBatch, task: Task, known: Collection[str]) -> pa.Array:
    if task in ("text-classification", "text-generation"):
        return pa.nulls(batch.num_rows, pa.string())
    cells, texts = batch.column(LABEL).to_pylist(), batch.column(TEXT).to_pylist()
    problems = [cell_problem(cell, text, task, known) for cell, text in zip(cells, texts, strict=True)]
    return pa.array(problems, pa.string())


def count_scripts(texts: pa.Array) -> Counter[str]:
    """Texts by the script of most of their letters; "other" is any further one, texts without letters are left out.

    At most 2,000 texts, evenly spaced, are looked at.
    """
    if len(texts) > _SCRIPT_SAMPLE:
        texts = texts.take(pa.array(np.linspace(0, len(texts) - 1, _SCRIPT_SAMPLE).astype(np.int64)))
    letters = pc.replace_substring_regex(texts, _NOT_LETTERS, "")
    letters = letters.filter(pc.greater(pc.utf8_length(letters), 0))
    ascii_only = pc.string_is_ascii(letters)
    counts: Counter[str] = Counter()
    counts["Latin"] += pc.sum(ascii_only).as_py() or 0
    rest = letters.filter(pc.invert(ascii_only))
    if len(rest):
        lengths = [pc.utf8_length(pc.replace_substring_regex(rest, drop, "")).to_numpy() for drop in _SCRIPTS.values()]
        lengths.append(pc.utf8_length(rest).to_numpy() - np.sum(lengths, axis=0))
        names = [*_SCRIPTS, "other"]
        counts.update(names[place] for place in np.argmax(np.stack(lengths), axis=0).tolist())
    return +counts
