"""Answers that are kept: their keys, their bytes, the memory they take, and a Redis that comes and goes."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter, OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnmt.serving.cache import CacheEvent, cache_key
from lnmt.serving.cache.codec import pack, seal, unpack, unseal
from lnmt.serving.cache.memory import ENTRY_BYTES, MemoryCache
from lnmt.types import Prediction

KEY = cache_key("sha256:1", "a good film")
FLOATS = st.floats(width=32, allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # labels; those of a bundle are valid Unicode


def prediction(label: str = "positive", score: float = 0.75) -> Prediction:
    return Prediction(label, {"negative": 1 - score, label: score}, 4, np.arange(8, dtype=np.float32))


def same(found: Prediction | None, expected: Prediction) -> bool:
    return (
        found is not None
        and (found.label, found.scores, found.tokens) == (expected.label, expected.scores, expected.tokens)
        and found.pooled.dtype == np.float32
        and found.pooled.tobytes() == expected.pooled.tobytes()
    )


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    scores = draw(st.dictionaries(TEXTS, st.floats(0, 1), min_size=1, max_size=5))
    pooled = np.array(draw(st.lists(FLOATS, max_size=8)), dtype=np.float32)
    return Prediction(draw(st.sampled_from(sorted(scores))), scores, draw(st.integers(0, 4096)), pooled)


# keys


@given(st.text(), st.text(), st.text(), st.text())
def test_two_pairs_of_bundle_and_text_have_two_keys(bundle: str, text: str, other_bundle: str, other_text: str) -> None:
    bundle, other_bundle = (name.encode("utf-8", "replace").decode() for name in (bundle, other_bundle))
    same_pair = (bundle, text) == (other_bundle, other_text)
    assert (cache_key(bundle, text) == cache_key(other_bundle, other_text)) == same_pair


@given(st.text(st.characters(codec="ascii")), st.integers(0, 10))
def test_moving_the_border_between_bundle_and_text_moves_the_key(both: str, border: int) -> None:
    at, beside = min(border, len(both)), min(border + 1, len(both))
    assert (cache_key(both[:at], both[at:]) == cache_key(both[:beside], both[beside:])) == (at == beside)


def test_a_key_is_32_bytes_of_any_text() -> None:
    assert len({cache_key("sha256:1", text) for text in ("", "a", "\ud800", "\0")}) == 4
    assert len(cache_key("sha256:1", "a" * 100_000)) == 32


# bytes


@given(predictions())
def test_a_prediction_comes_back_as_it_was(value: Prediction) -> None:
    assert same(unpack(pack(value)), value)
    assert same(unseal(KEY, seal(KEY, value)), value)


def test_a_row_of_a_batch_is_kept_without_the_batch() -> None:
    batch = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
    value = Prediction("a", {"a": 1.0}, 2, batch[3])
    assert same(unpack(pack(value)), value)
    assert len(pack(value)) < 60
    strided = Prediction("a", {"a": 1.0}, 2, batch[:, 3])
    assert same(unpack(pack(strided)), strided)


@given(predictions(), st.data())
def test_what_was_altered_or_cut_is_none(value: Prediction, data: st.DataObject) -> None:
    sealed = seal(KEY, value)
    place, flip = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    altered = sealed[:place] + bytes([sealed[place] ^ flip]) + sealed[place + 1 :]
    for wrong in (altered, sealed[:place], sealed + b"\0"):
        assert unseal(KEY, wrong) is None


def test_an_answer_to_another_text_is_none() -> None:
    assert unseal(cache_key("sha256:1", "another"), seal(KEY, prediction())) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",  # a pickle's beginning
        b"\xc0",
        pack(prediction())[:-1],
        b"\x94\xa1a\x81\xa1b\xcb?\xf0\x00\x00\x00\x00\x00\x00\x02\xc4\x00",  # the label "a", a score for "b"
        b"\x94\xa1a\x81\xa1a\xcb?\xf0\x00\x00\x00\x00\x00\x00\x02\xc4\x01\x00",  # a quarter of a float
    ],
)
def test_other_bytes_are_no_prediction(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(data)


# memory


class Counts(Counter[CacheEvent]):
    def __call__(self, event: CacheEvent) -> None:
        self[event] += 1


def test_what_is_kept_is_found() -> None:
    async def go() -> None:
        cache = MemoryCache(100_000)
        assert await cache.get(KEY) is None
        await cache.put(KEY, prediction())
        assert same(await cache.get(KEY), prediction())
        assert await cache.get(cache_key("sha256:2", "a good film")) is None
        await cache.close()
        assert (await cache.get(KEY), len(cache), cache.used_bytes) == (None, 0, 0)

    asyncio.run(go())


def test_whoever_changes_an_answer_changes_it_for_himself() -> None:
    async def go() -> None:
        cache = MemoryCache(100_000)
        value = prediction()
        await cache.put(KEY, value)
        for mine in (value, await cache.get(KEY)):
            assert mine is not None
            mine.scores["positive"] = 0.0
        assert same(await cache.get(KEY), prediction())

    asyncio.run(go())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 1500)), max_size=60))
def test_the_least_recently_used_make_room_and_the_bound_holds(steps: list[tuple[bool, int, int]]) -> None:
    most = 4 * ENTRY_BYTES + 2000
    counts, model, gone = Counts(), OrderedDict[bytes, Prediction](), Counts()
    cache = MemoryCache(most, counts)

    def size(value: Prediction) -> int:
        return sys.getsizeof(pack(value)) + ENTRY_BYTES

    def put(key: bytes, value: Prediction) -> None:
        if size(value) > most:
            gone("refused")
            model.pop(key, None)
            return
        while sum(size(kept) for other, kept in model.items() if other != key) + size(value) > most:
            model.popitem(last=False)
            gone("evicted")
        model[key] = value
        model.move_to_end(key)

    async def go() -> None:
        for writes, name, length in steps:
            key = cache_key("sha256:1", str(name))
            if writes:
                value = prediction("x" * length)
                put(key, value)
                await cache.put(key, value)
            else:
                found = await cache.get(key)
                assert (found is None) == (key not in model)
                if found is not None:
                    assert same(found, model[key])
                    model.move_to_end(key)
            assert len(cache) == len(model)
            assert cache.used_bytes == sum(map(size, model.values())) <= most
            assert counts == gone

    asyncio.run(go())


@pytest.mark.parametrize("entries", [700, 3000, 11_000])
def test_the_bound_is_of_the_memory_that_entries_take(entries: int) -> None:
    keys = [cache_key("sha256:1", str(number)) for number in range(entries)]
    value = prediction()

    async def fill(cache: MemoryCache) -> None:
        for key in keys:
            await cache.put(bytes(bytearray(key)), value)  # a key of its own, as a request's is

    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = MemoryCache(10**9)
        asyncio.run(fill(cache))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == entries
    assert taken <= cache.used_bytes <= 1.2 * taken
