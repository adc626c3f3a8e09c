from __future__ import annotations

from lnmt.training.fingerprints import differences


def test_what_is_the_same_is_not_told() -> None:
    assert differences({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": (1, 2)}, "a": 1}) == []


def test_each_difference_has_its_name_and_both_values() -> None:
    theirs = {"torch": "2.12", "data": {"train": "x", "test": "y"}, "plugins": ["a"], "gone": None, "rate": 0.1}
    ours = {"torch": "2.13", "data": {"train": "x", "test": "z"}, "plugins": [], "new": {}, "rate": 0.2}
    assert differences(theirs, ours) == [
        ("data.test", "y", "z"),
        ("gone", "null", "absent"),
        ("new", "absent", "{}"),
        ("plugins", '["a"]', "[]"),
        ("rate", "0.1", "0.2"),
        ("torch", "2.12", "2.13"),
    ]


def test_numbers_and_their_texts_differ() -> None:
    assert differences({"a": 1}, {"a": "1"}) == [("a", "1", "1")]


def test_long_values_are_cut() -> None:
    (found,) = differences({"a": "sha256:" + "0123456789abcdef" * 4}, {"a": list(range(100))})
    assert found == ("a", "sha256:0123456789ab", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1…")
