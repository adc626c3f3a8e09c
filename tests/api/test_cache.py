from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lnmt.api.cache import (
    MemoryCache,
    RedisCache,
    cache_key,
    dump_prediction,
    load_prediction,
    make_cache,
    parse_size,
)
from lnmt.drive.pages import free_port
from lnmt.errors import LnmtError, UnknownName
from lnmt.types import (
    AnyPrediction,
    LabelsPrediction,
    NumberPrediction,
    Prediction,
    TagsPrediction,
    TextPrediction,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "prediction",
    [
        LabelsPrediction(("a", "b"), {"a": 0.1 + 0.2, "b": 0.9}, 3),
        NumberPrediction(1 / 3, 4),
        TagsPrediction(("new", "york"), ("B-LOC", None), 5),
        TextPrediction(0.1, 7),
    ],
)
def test_a_prediction_comes_back_as_it_was(prediction: AnyPrediction) -> None:
    assert load_prediction(dump_prediction(prediction)) == prediction


def test_so_does_one_with_its_pooled_state() -> None:
    pooled = np.array([0.1, -1e-30, 3.4e38], dtype=np.float32)
    found = load_prediction(dump_prediction(Prediction("a", {"a": 1.0}, 2, pooled)))
    assert isinstance(found, Prediction)
    assert (found.label, found.scores, found.tokens, str(found.pooled.dtype)) == ("a", {"a": 1.0}, 2, "float32")
    assert found.pooled.tobytes() == pooled.tobytes()


def test_a_key_is_of_model_and_text_and_shows_neither() -> None:
    keys = {cache_key(model, text) for model in ("m", "n") for text in ("a", "b", "\ud800")}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {64}


def test_a_value_lives_as_long_as_its_ttl() -> None:
    clock = Clock()
    cache = MemoryCache(ttl_s=10, max_bytes=1000, clock=clock)
    cache.put("k", b"v")
    clock.now = 9.9
    assert cache.get("k") == b"v"
    clock.now = 10.0
    assert cache.get("k") is None
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = MemoryCache(ttl_s=10, max_bytes=9)
    for key in ("a", "b", "c"):
        cache.put(key, b"vv")
    assert cache.get("a") == b"vv"
    cache.put("d", b"vv")
    assert [cache.get(key) for key in "abcd"] == [b"vv", None, b"vv", b"vv"]
    cache.put("a", b"wwwww")  # replaced, not added: 6 bytes beside 3
    assert ([cache.get(key) for key in "acd"], cache.bytes) == ([b"wwwww", None, b"vv"], 9)
    cache.put("e", b"x" * 9)  # larger than all: not kept, and nothing is
    assert (len(cache), cache.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("size", "count"), [("1GB", 10**9), ("1.5 kib", 1536), (100, 100), ("7", 7), ("2TB", 2 * 10**12)]
)
def test_sizes_are_read(size: str | int, count: int) -> None:
    assert parse_size(size) == count


@pytest.mark.parametrize("size", ["1XB", "GB", "-1", "0", "1 G B", ""])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(LnmtError, match="not a size"):
        parse_size(size)


def test_an_unknown_cache_and_a_ttl_of_nothing_are_told() -> None:
    with pytest.raises(UnknownName, match="unknown cache type 'rediss'") as caught:
        make_cache("rediss", 1, "1GB", None)
    assert caught.value.fix == "did you mean 'redis'?"
    with pytest.raises(LnmtError, match="ttl is not above 0"):
        make_cache("memory", 0, "1GB", None)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port, home = free_port(0), tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@pytest.fixture
def redis_cache(redis_url: str) -> Iterator[RedisCache]:
    cache = RedisCache(redis_url, ttl_s=100, max_bytes=9)
    cache._client.flushdb()
    yield cache
    cache.close()


def test_redis_keeps_values_with_their_time(redis_cache: RedisCache, redis_url: str) -> None:
    assert redis_cache.get("k") is None
    redis_cache.put("k", b"vvv")
    assert redis_cache.get("k") == b"vvv"
    other = RedisCache(redis_url, ttl_s=100, max_bytes=9)
    assert other.get("k") == b"vvv"
    other.close()
    assert 0 < redis_cache._client.pttl("lnmt:prediction:k") <= 100_000


def test_in_redis_too_what_was_not_used_for_longest_makes_room(redis_cache: RedisCache) -> None:
    for key in ("a", "b", "c"):
        redis_cache.put(key, b"vvv")
    assert redis_cache.get("a") == b"vvv"
    redis_cache.put("d", b"vvv")
    assert [redis_cache.get(key) for key in "abcd"] == [b"vvv", None, b"vvv", b"vvv"]
    redis_cache.put("a", b"wwwwww")
    assert [redis_cache.get(key) for key in "acd"] == [b"wwwwww", None, b"vvv"]
    sizes = redis_cache._client.hgetall("lnmt:predictions:bytes")
    assert sizes == {b"total": b"9", b"a": b"6", b"d": b"3"}


def test_a_server_that_is_not_there_is_told() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port(0)}/3"
    with pytest.raises(LnmtError, match="the Redis server does not answer") as caught:
        make_cache("redis", 10, "1MB", url)
    assert "secret" not in str(caught.value)
    assert str(caught.value.where).startswith("redis://127.0.0.1:")
    with pytest.raises(LnmtError, match="not the address of a Redis server"):
        make_cache("redis", 10, "1MB", "http://127.0.0.1")


def test_a_server_that_goes_away_is_told(tmp_path: Path) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port(0)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Ready to accept connections" in line for line in process.stdout)
        cache = RedisCache(f"redis://127.0.0.1:{port}", 10, 100)
        process.terminate()
        process.wait()
    with pytest.raises(LnmtError, match="the Redis server does not answer"):
        cache.put("a", b"v")
    cache.close()
