from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.data.labels import (
    BROKEN_ORDER,
    MALFORMED,
    MISCOUNTED,
    MISSING,
    NO_NUMBER,
    UNKNOWN,
    UNKNOWN_TAG,
    cell_names,
    cell_problem,
    check_words,
    foreign_names,
    join_names,
    label_codes,
    order_problem,
    parse_labels,
    parse_number,
    split_labels,
    split_tags,
)
from lnmt.errors import LnmtError, UnknownName
from lnmt.types import Task
from tests.task_kit import TASKS

NAMES = ["a", "b", "c"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a", ["a"]),
        ("a|b", ["a", "b"]),
        (" a | b ", ["a", "b"]),
        ("", []),
        ("  ", []),
        ("[]", []),
        ('["a", "b|c"]', ["a", "b|c"]),
        ("[1, 2.50, true, NaN]", ["1", "2.50", "true", "NaN"]),
        ("[a]", ["[a]"]),
        ("a|", ["a", ""]),
    ],
)
def test_names_of_a_cell(cell: str, names: list[str]) -> None:
    assert split_labels(cell) == names


@pytest.mark.parametrize("cell", ["[null]", '["a", ["b"]]', '[{"a": 1}]'])
def test_a_list_of_other_things_than_names(cell: str) -> None:
    with pytest.raises(ValueError, match=re.escape(cell)):
        split_labels(cell)
    assert cell_problem(cell, "w", "multi-label-classification", NAMES) == MALFORMED
    assert cell_problem(cell, "w", "token-classification", NAMES) == MALFORMED


@pytest.mark.parametrize(
    ("cell", "tags"),
    [("O  B-PER\tI-PER", TAGS[:3]), ('["O", "B-PER"]', TAGS[:2]), ("[X] O [Y]", ["[X]", "O", "[Y]"]), ("", [])],
)
def test_tags_of_a_cell(cell: str, tags: list[str]) -> None:
    assert split_tags(cell) == tags


@pytest.mark.parametrize("cell", ["[" * 100_000 + "]" * 100_000, '["\\ud800"]'])
def test_a_list_that_no_report_can_hold(cell: str) -> None:
    assert cell_problem(cell, "w", "multi-label-classification", NAMES) == MALFORMED
    assert foreign_names(cell, "multi-label-classification", NAMES) == [cell]


@settings(deadline=None)
@given(st.text(max_size=30) | st.sampled_from(["a|b", "[]", '["c", 1]', "B-PER I-PER", "1e5"]), st.sampled_from(TASKS))
def test_what_has_no_problem_can_be_parsed_and_nothing_else(cell: str, task: Task) -> None:
    labels = [*NAMES, *TAGS]
    text = " ".join("w" for _ in cell_names_or_none(cell))
    problem = cell_problem(cell, text, task, labels)
    if problem in (None, BROKEN_ORDER, MISCOUNTED):  # what is left to validation
        parse([cell], task, labels)
    else:
        with pytest.raises(LnmtError, match="r0"):
            parse([cell], task, labels)


def cell_names_or_none(cell: str) -> list[str]:
    try:
        return split_tags(cell)
    except ValueError:
        return []


@pytest.mark.parametrize("names", [[], ["a"], ["ä|b", 'c"d'], ["1"]])
def test_joined_names_are_split_again(names: list[str]) -> None:
    assert split_labels(join_names(names)) == split_tags(join_names(names)) == names


def test_a_label_given_twice_counts_once() -> None:
    assert cell_names("a|b|a", "multi-label-classification") == ["a", "b"]
    assert cell_names("O O", "token-classification") == ["O", "O"]


@pytest.mark.parametrize(("cell", "number"), [("1", 1.0), ("-2.5e3", -2500.0), (" 0 ", 0.0), ("3e38", 3e38)])
def test_numbers(cell: str, number: float) -> None:
    assert parse_number(cell) == number


@pytest.mark.parametrize("cell", ["", "one", "nan", "inf", "-Infinity", "1e39", "1_000", "1,5", "0x1"])
def test_what_is_no_number_for_float32(cell: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(cell))):
        parse_number(cell)
    assert cell_problem(cell, "w", "text-regression", ()) == NO_NUMBER


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ("O B-PER I-PER I-PER O", None),
        ("B-PER B-PER", None),
        ("", None),
        ("NOUN VERB", None),
        ("I-PER", 0),
        ("O I-PER", 1),
        ("B-LOC I-PER", 1),
        ("B-PER I-PER I-LOC", 2),
        ("B-PER O I-PER", 2),
        ("X-PER I-PER", 1),
    ],
)
def test_the_order_of_tags(tags: str, place: int | None) -> None:
    assert order_problem(tags.split()) == place


@pytest.mark.parametrize(
    ("task", "cell", "text", "problem"),
    [
        ("text-classification", "a", "w", None),
        ("text-classification", "A", "w", UNKNOWN),
        ("text-classification", "a|b", "w", UNKNOWN),
        ("text-classification", None, "w", MISSING),
        ("multi-label-classification", "", "w", None),
        ("multi-label-classification", "c|a", "w", None),
        ("multi-label-classification", "a|d", "w", UNKNOWN),
        ("multi-label-classification", "a|", "w", UNKNOWN),
        ("multi-label-classification", None, "w", MISSING),
        ("text-regression", "0.5", "w", None),
        ("text-regression", None, "w", MISSING),
        ("text-generation", None, "w", None),
        ("text-generation", "whatever", "w", None),
    ],
)
def test_problems_of_a_cell(task: Task, cell: str | None, text: str, problem: str | None) -> None:
    assert cell_problem(cell, text, task, NAMES) == problem


@pytest.mark.parametrize(
    ("cell", "text", "problem"),
    [
        ("B-PER I-PER O", "anna  smith\nleft", None),
        ('["O"]', "left", None),
        ("B-PER I-PER", "anna smith left", MISCOUNTED),
        ("", "left", MISCOUNTED),
        ("O O", "left", MISCOUNTED),
        ("B-ORG O", "acme left", UNKNOWN_TAG),
        ("O I-PER", "left anna", BROKEN_ORDER),
        (None, "left", MISSING),
        ("O", None, None),  # a rule of its own tells that the text is missing
    ],
)
def test_problems_of_tags(cell: str | None, text: str | None, problem: str | None) -> None:
    assert cell_problem(cell, text, "token-classification", TAGS) == problem


def ids(values: list[Any]) -> list[str]:
    return [f"r{place}" for place in range(len(values))]


def parse(values: list[str | None], task: Task, labels: list[str]) -> Any:
    return parse_labels(values, ids(values), task, labels, where="data/x")


def test_targets_of_classes() -> None:
    targets = parse(["c", "a", "a"], "text-classification", NAMES)
    assert targets.dtype == np.int64
    assert targets.tolist() == [2, 0, 0]


def test_targets_of_several_labels() -> None:
    targets = parse(["a|c", "", '["b"]', "b|b"], "multi-label-classification", NAMES)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_targets_of_numbers() -> None:
    targets = parse(["1", "-0.25"], "text-regression", [])
    assert targets.dtype == np.float32
    assert targets.tolist() == [1.0, -0.25]


def test_targets_of_tags() -> None:
    targets = parse(["O B-PER I-PER", '["O"]', "O"], "token-classification", TAGS)
    assert [target.tolist() for target in targets] == [[0, 1, 2], [0], [0]]
    assert {target.dtype for target in targets} == {np.dtype(np.int64)}


def test_text_generation_has_no_targets() -> None:
    targets = parse([None, None], "text-generation", [])
    assert (targets.shape, targets.dtype) == ((0,), np.int64)


def test_no_rows() -> None:
    assert parse([], "text-classification", NAMES).shape == (0,)
    assert parse([], "multi-label-classification", NAMES).shape == (0, 3)
    assert parse([], "text-regression", []).shape == (0,)
    assert parse([], "token-classification", TAGS) == []


@pytest.mark.parametrize(
    ("task", "good", "bad", "kind", "nearest"),
    [
        ("text-classification", "film", "flim", "label", "film"),
        ("multi-label-classification", "film|phone", "film|fone", "label", "phone"),
        ("token-classification", "film phone", "film phon", "tag", "phone"),
    ],
)
def test_an_unknown_name_is_told_with_its_row(task: Task, good: str, bad: str, kind: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown {kind}") as caught:
        parse([good, bad], task, ["film", "phone"])
    assert caught.value.where == "data/x, row r1"
    assert caught.value.fix == f"did you mean {nearest!r}?"


@pytest.mark.parametrize(
    ("task", "good"),
    [
        ("text-classification", "a"),
        ("multi-label-classification", "a|b"),
        ("text-regression", "1"),
        ("token-classification", "a b"),
    ],
)
def test_a_row_without_a_label_is_told(task: Task, good: str) -> None:
    with pytest.raises(LnmtError, match="a row has no label") as caught:
        parse([good, good, None], task, NAMES)
    assert (caught.value.where, caught.value.value) == ("data/x", "row r2")


@pytest.mark.parametrize(
    ("task", "good", "bad", "what"),
    [
        ("multi-label-classification", "a", "[null]", MALFORMED),
        ("text-regression", "1", "1e99", NO_NUMBER),
        ("token-classification", "a", "[[]]", MALFORMED),
    ],
)
def test_a_malformed_cell_is_told(task: Task, good: str, bad: str, what: str) -> None:
    with pytest.raises(LnmtError) as caught:
        parse([good, bad], task, NAMES)
    assert (caught.value.what, caught.value.value) == (what, f"row r1: {bad!r}")


def test_tags_are_held_to_the_words() -> None:
    targets = parse(["O", "O B-PER"], "token-classification", TAGS)
    check_words(targets, ["left", " left\u00a0anna "], ["r0", "r1"], where="data/x")
    with pytest.raises(LnmtError, match="a row has 3 words and 2 tags") as caught:
        check_words(targets, ["left", "left anna smith"], ["r0", "r1"], where="data/x")
    assert caught.value.value == "row r1: 'left anna smith'"


def test_codes_are_equal_where_labels_say_the_same() -> None:
    def codes(task: Task, *cells: str | None) -> list[int]:
        first = label_codes(pa.array(cells, pa.string()), task).tolist()
        return [first.index(code) for code in first]

    assert codes("text-classification", "a", "b", "a", None, None) == [0, 1, 0, 3, 3]
    assert codes("multi-label-classification", "a|b", '["b", "a"]', "a", "", "[]") == [0, 0, 2, 3, 3]
    assert codes("text-regression", "1", "1.0", "2", "x") == [0, 0, 2, 3]
    assert codes("token-classification", "O B-X", '["O", "B-X"]', "B-X O") == [0, 0, 2]
    assert codes("text-generation", None, None) == [0, 0]
    assert label_codes(pa.array([], pa.string()), "text-classification").shape == (0,)


def test_names_outside_the_set() -> None:
    assert foreign_names("a|x|x|y", "multi-label-classification", NAMES) == ["x", "y"]
    assert foreign_names("x", "text-classification", NAMES) == ["x"]
    assert foreign_names("n/a", "text-regression", ()) == ["n/a"]
    assert foreign_names("1.5", "text-regression", ()) == []
    assert foreign_names("O B-ORG", "token-classification", TAGS) == ["B-ORG"]
    assert foreign_names("[null]", "token-classification", TAGS) == ["[null]"]
