"""Expected spans are worked out by hand from the rules of conlleval, which seqeval's default mode follows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.training.metrics.tags import NO_TAG, TagMetrics

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-LOC"]
METRICS = TagMetrics(TAGS)


def encode(*rows: str) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    places = {**{tag: place for place, tag in enumerate(TAGS)}, "?": NO_TAG}
    tags = np.array([places[tag] for row in rows for tag in row.split()], dtype=np.int64)
    return tags, np.array([len(row.split()) for row in rows], dtype=np.int64)


def spans(*rows: str) -> list[tuple[int, int, str]]:
    tags, lengths = encode(*rows)
    first = np.zeros(len(tags), dtype=np.bool_)
    first[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
    found = METRICS.spans(tags, first)
    names = [METRICS.scored[place] for place in found.types]
    return list(zip(found.starts.tolist(), found.ends.tolist(), names, strict=True))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", [(1, 2, "PER")]),
        ("B-PER B-PER", [(0, 0, "PER"), (1, 1, "PER")]),  # two beside each other
        ("O I-PER I-PER", [(1, 2, "PER")]),  # inside of nothing: begins
        ("B-PER I-LOC I-LOC", [(0, 0, "PER"), (1, 2, "LOC")]),  # another type: begins
        ("I-PER B-PER I-PER", [(0, 0, "PER"), (1, 2, "PER")]),
        ("B-PER E-PER I-PER", [(0, 1, "PER"), (2, 2, "PER")]),  # E ends
        ("E-PER E-PER", [(0, 0, "PER"), (1, 1, "PER")]),
        ("S-LOC I-LOC S-LOC", [(0, 0, "LOC"), (1, 1, "LOC"), (2, 2, "LOC")]),
        ("B-PER ? I-PER", [(0, 0, "PER"), (2, 2, "PER")]),  # no tag is outside
        ("O O", []),
    ],
)
def test_spans(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert spans(tags) == expected


def test_an_entity_does_not_cross_rows() -> None:
    assert spans("O B-PER", "I-PER O", "I-PER") == [(1, 1, "PER"), (2, 2, "PER"), (4, 4, "PER")]


def conlleval(tags: list[str]) -> list[tuple[int, int, str]]:
    """The same word by word, for one row."""
    found: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if tag == "O":
            continue
        prefix, kind = tag.split("-")
        before = tags[place - 1] if place else "O"
        open_ = before != "O" and before[0] in "BI" and before[2:] == kind and prefix in "IE"
        if open_:
            found[-1] = (found[-1][0], place, kind)
        else:
            found.append((place, place, kind))
    return found


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_spans_are_those_of_reading_word_by_word(tags: list[str]) -> None:
    assert spans(" ".join(tags)) == conlleval(tags)


def points(actual: tuple[str, ...], predicted: tuple[str, ...]) -> dict[str, float]:
    asked, lengths = encode(*actual)
    found, _ = encode(*predicted)
    return METRICS.points(METRICS.total(METRICS.rows(asked, found, lengths)))


def test_metrics_of_two_rows() -> None:
    found = points(
        ("B-PER I-PER O B-LOC", "B-LOC I-LOC B-PER"),  # PER 0-1, LOC 3; LOC 0-1, PER 2
        ("B-PER I-PER O B-PER", "B-LOC O B-PER"),  # PER 0-1 right, PER 3 wrong type; LOC 0 cut short, PER 2 right
    )
    assert found["micro_precision"] == pytest.approx(2 / 4)
    assert found["micro_recall"] == pytest.approx(2 / 4)
    assert found["micro_f1"] == pytest.approx(2 / 4)
    assert found["precision.PER"] == pytest.approx(2 / 3)
    assert found["recall.PER"] == 1.0
    assert found["f1.PER"] == pytest.approx(4 / 5)
    assert (found["precision.LOC"], found["recall.LOC"], found["f1.LOC"]) == (0.0, 0.0, 0.0)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert found["token_accuracy"] == pytest.approx(5 / 7)


def test_rows_count_their_own_entities() -> None:
    asked, lengths = encode("B-PER", "", "B-LOC O")
    found, _ = encode("B-PER", "", "O O")
    # right, actual and predicted PER and LOC; right words, words
    assert METRICS.rows(asked, found, lengths).tolist() == [
        [1, 0, 1, 0, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 1, 2],
    ]


def test_words_without_a_tag_are_wrong_and_outside() -> None:
    found = points(("O B-PER",), ("? ?",))
    assert (found["token_accuracy"], found["micro_recall"], found["micro_f1"]) == (0.0, 0.0, 0.0)


def test_tags_without_a_prefix_are_entities_of_one_word() -> None:
    metrics = TagMetrics(["NOUN", "VERB"])
    rows = metrics.rows(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([3]))
    found = metrics.points(metrics.total(rows))
    assert metrics.scored == ["NOUN", "VERB"]
    assert found["micro_f1"] == found["token_accuracy"] == pytest.approx(2 / 3)


def test_no_rows_are_zero() -> None:
    assert set(points((), ()).values()) == {0.0}
