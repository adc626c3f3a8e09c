from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.data.hash_spill import HashSpill
from lnmt.data.keys import hashes, text_hashes, text_key
from lnmt.data.split import SPLITS, Holdout, Splitter, check_leaks
from lnmt.data.tables import ShardWriter, table_schema
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import SplitShares

SHARES = SplitShares(train=0.7, validation=0.1, test=0.2)


def test_wording_leaves_out_case_punctuation_and_space() -> None:
    assert text_key("  It's GREAT,\n really!") == "it s great really"
    assert text_key("“Straße”…") == "strasse"
    assert text_key("ｆｕｌｌ ﬁne") == "full fine"
    assert text_key("love 😀") != text_key("love 😡")


def test_a_text_of_punctuation_alone_keeps_it() -> None:
    assert text_key(" :)  !") == ":) !"
    assert text_key(":)") != text_key(":(")


@given(st.text())
def test_the_wording_of_a_wording_is_itself(text: str) -> None:
    # casefolding and compatibility forms can need a second turn (İ, ͅ), punctuation and space cannot
    once = text_key(text_key(text))
    assert text_key(once) == once


def test_hashes_do_not_change_from_release_to_release() -> None:
    # another value here would move rows between the splits of every existing project
    assert text_hashes(["Hello, world"], "lnmt").tolist() == hashes(["hello world"], "lnmt").tolist()
    assert [f"{part:016x}" for part in hashes(["hello world"], "lnmt")[0].tolist()] == [
        "671a63120f27526b",
        "b3f13ceac8e379bc",
    ]


@given(st.lists(st.text(min_size=1), max_size=30), st.lists(st.text(min_size=1), max_size=30))
def test_new_rows_move_no_old_row(old: list[str], new: list[str]) -> None:
    splitter = Splitter(SHARES, "salt")
    before = splitter.codes(splitter.hashes(old)).tolist()
    after = splitter.codes(splitter.hashes([*new, *old])).tolist()
    assert after[len(new) :] == before


@given(st.text(min_size=1), st.sampled_from(["{}!", " {} ", "\t{}…", "“{}”"]))
def test_the_same_wording_falls_in_the_same_split(text: str, around: str) -> None:
    splitter = Splitter(SHARES, "salt")
    if text_key(around.format(text)) == text_key(text):
        assert splitter.split(around.format(text)) == splitter.split(text)


def test_shares_are_met_and_salt_changes_the_split() -> None:
    texts = [f"text {number}" for number in range(20_000)]
    one, other = Splitter(SHARES, "one"), Splitter(SHARES, "other")
    codes = one.codes(one.hashes(texts))
    counts = Counter(SPLITS[code] for code in codes.tolist())
    # five standard deviations of a binomial of 20,000 rows at 0.7 are 0.0162
    assert {name: counts[name] / 20_000 for name in SPLITS[:3]} == pytest.approx(
        {"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.0162
    )
    assert 0.4 < float(np.mean(codes == other.codes(other.hashes(texts)))) < 0.7  # by chance 0.54


def test_a_share_of_zero_gets_no_row() -> None:
    splitter = Splitter(SplitShares(train=0.5, validation=0, test=0.5), "salt")
    texts = [str(number) for number in range(1000)]
    assert set(splitter.codes(splitter.hashes(texts)).tolist()) == {0, 2}


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcdef"), max_size=40))
def test_repeats_are_found_on_disk(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    spill = HashSpill(tmp_path_factory.mktemp("spill") / "hashes")
    middle = len(values) // 2
    for part in (values[:middle], values[middle:]):
        spill.add(hashes(part), np.zeros(len(part), dtype=np.uint32))
    first = {int(row) for group in spill.groups() for row in group.rows[group.first]}
    assert first == {values.index(value) for value in values}
    assert spill.repeats() == len(values) - len(set(values))


def test_both_halves_of_a_hash_count(tmp_path: Path) -> None:
    spill = HashSpill(tmp_path / "hashes")
    spill.add(np.array([[1, 1], [1, 2], [2, 1], [1, 1]], dtype=np.uint64), np.zeros(4, dtype=np.uint32))
    assert [group.rows[group.first].tolist() for group in spill.groups()] == [[0, 1, 2]]


def test_mixed_tags_are_found(tmp_path: Path) -> None:
    spill = HashSpill(tmp_path / "hashes")
    spill.add(hashes(["a", "b", "a", "b", "c"]), np.array([0, 1, 2, 1, 0], dtype=np.uint32))
    assert spill.mixed() == 1


def write_splits(root: Path, **texts: list[str]) -> HashSpill:
    """Tables of these texts under their split's name, and the hashes that `process` would have kept."""
    schema = table_schema([])
    spill = HashSpill(root / "spill")
    splitter = Splitter(SHARES, "salt")
    for code, name in enumerate(SPLITS):
        found = texts.get(name, [])
        with ShardWriter(root / name, schema, 100) as writer:
            columns = [[str(place) for place in range(len(found))], found, ["a"] * len(found)]
            writer.write(pa.RecordBatch.from_arrays([pa.array(one, pa.string()) for one in columns], schema=schema))
        spill.add(splitter.hashes(found), np.full(len(found), code, dtype=np.uint32))
    return spill


def test_a_leak_is_an_error_that_shows_it(tmp_path: Path) -> None:
    spill = write_splits(tmp_path, train=["one", "Two!"], validation=["three"], test=["four", "two"])
    with pytest.raises(LnmtError, match="1 texts stand in more than one of train, validation and test") as caught:
        check_leaks(spill, tmp_path, Splitter(SHARES, "salt"))
    assert caught.value.value == "train: 'Two!'; test: 'two'"


def test_wordings_shared_with_holdout_are_counted_not_refused(tmp_path: Path) -> None:
    spill = write_splits(tmp_path, train=["one", "one."], test=["two"], holdout=["ONE", "two", "three"])
    assert check_leaks(spill, tmp_path, Splitter(SHARES, "salt")) == 2


def test_holdout_by_slice() -> None:
    schema = table_schema(["domain"])
    rows = [{"id": str(place), "domain": name} for place, name in enumerate(["film", "tweet", None, "news"])]
    batch = pa.RecordBatch.from_pylist(rows, schema)
    holdout = Holdout({"domain": ["tweet", "news"]}, ["domain"])
    assert holdout.mask(batch).tolist() == [False, True, False, True]
    holdout.check_found({"domain": ["film", "news", "tweet"]})


def test_holdout_by_several_slices() -> None:
    rows = [{"id": "0", "domain": "tweet"}, {"id": "1", "year": "2019"}, {"id": "2", "domain": "film", "year": "2020"}]
    batch = pa.RecordBatch.from_pylist(rows, table_schema(["domain", "year"]))
    assert Holdout({"domain": ["tweet"], "year": ["2019"]}, ["domain", "year"]).mask(batch).tolist() == [
        True,
        True,
        False,
    ]


def test_holdout_of_a_value_that_no_row_has() -> None:
    holdout = Holdout({"domain": ["tweets"]}, ["domain"])
    with pytest.raises(LnmtError, match="names a value that no row has") as caught:
        holdout.check_found({"domain": ["film", "tweet"]})
    assert (caught.value.value, caught.value.allowed) == ("tweets", "film, tweet")


def test_holdout_of_a_column_that_is_no_slice() -> None:
    with pytest.raises(UnknownName, match="did you mean 'domain'"):
        Holdout({"domian": ["tweet"]}, ["domain", "year"])
