from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.data.flat import BlockNames, Joined, Strings

SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@settings(deadline=None)
@given(sizes=SIZES, start=st.integers(0, 30), length=st.integers(0, 30))
def test_joined_arrays_slice_as_one(sizes: list[int], start: int, length: int) -> None:
    whole = np.arange(sum(sizes), dtype=np.int32)
    joined = Joined(np.split(whole, np.cumsum(sizes)[:-1]))
    assert (len(joined), joined.dtype.name) == (len(whole), "int32")
    found = joined[start : start + length]
    assert found.tolist() == whole[start : start + length].tolist()
    assert found.dtype == np.int32
    assert np.asarray(joined).tolist() == whole.tolist()


def test_a_slice_of_one_part_is_no_copy() -> None:
    parts = [np.arange(4), np.arange(5)]
    joined = Joined(parts)
    assert np.shares_memory(joined[5:9], parts[1])
    assert not np.shares_memory(joined[3:5], parts[0])


@settings(deadline=None)
@given(sizes=SIZES)
def test_columns_of_strings_read_as_one(sizes: list[int]) -> None:
    whole = [f"row {place}" for place in range(sum(sizes))]
    ends = np.cumsum(sizes).tolist()
    columns = [pa.array(whole[end - size : end], pa.string()) for size, end in zip(sizes, ends, strict=True)]
    strings = Strings(columns)
    assert list(strings) == whole
    assert strings[: len(whole)] == whole
    places = np.arange(len(whole))[::-1]
    assert strings.take(places) == whole[::-1]
    assert not whole or strings[-1] == whole[-1]
    with pytest.raises(IndexError):
        strings[len(whole)]


def test_blocks_are_named_by_where_they_begin() -> None:
    # documents of 3, 0 and 6 tokens; blocks of 4 of all nine
    names = BlockNames(["a", "b", "c"], np.array([3, 3, 9]), blocks=3, size=4)
    assert list(names) == ["a@0", "c@1", "c@5"]
    assert (names[-1], names[1:]) == ("c@5", ["c@1", "c@5"])
