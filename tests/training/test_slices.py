from __future__ import annotations

import numpy as np
import pytest

from lnmt.errors import UnknownName
from lnmt.training.slices import check_slices, find_slices

TOKENS = np.array([1, 10, 11, 20, 21])
LABELS = np.array([0, 1, 1, 1, 0])
COLUMNS = {"domain": ["film", "film", None, "film", "book"]}


def found(*names: str) -> list[tuple[str, str, list[bool]]]:
    masks = {label: np.equal(LABELS, place) for place, label in enumerate(["no", "yes", "maybe"])}
    slices = find_slices(names, COLUMNS, TOKENS, masks, [20, 10])
    return [(part.name, part.value, part.mask.tolist()) for part in slices]


def test_columns_come_largest_first_and_without_nulls() -> None:
    assert found("domain") == [
        ("domain", "film", [True, True, False, True, False]),
        ("domain", "(none)", [False, False, True, False, False]),
        ("domain", "book", [False, False, False, False, True]),
    ]


def test_an_edge_belongs_to_the_shorter_slice() -> None:
    assert found("length") == [
        ("length", "1–10 tokens", [True, True, False, False, False]),
        ("length", "11–20 tokens", [False, False, True, True, False]),
        ("length", "over 20 tokens", [False, False, False, False, True]),
    ]


def test_labels_without_rows_are_left_out() -> None:
    assert found("label") == [
        ("label", "no", [True, False, False, False, True]),
        ("label", "yes", [False, True, True, True, False]),
    ]


def test_an_unknown_slice_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown slice 'domian'") as caught:
        check_slices(["length", "domian"], ["domain"], labelled=True)
    assert caught.value.fix == "did you mean 'domain'?"
    assert caught.value.allowed == "domain, label, length"


def test_rows_without_labels_have_no_slice_of_them() -> None:
    check_slices(["label", "length", "domain"], ["domain"], labelled=True)
    with pytest.raises(UnknownName, match="unknown slice 'label'") as caught:
        check_slices(["label"], ["domain"], labelled=False)
    assert caught.value.allowed == "domain, length"
