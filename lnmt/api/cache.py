"""Predictions kept by digest of model and text: in memory, or in Redis. Keys are hashes, values JSON; no text is kept
but what an answer itself holds.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, Literal, Protocol, get_args

import numpy as np

from lnmt.errors import LnmtError, UnknownName
from lnmt.types import AnyPrediction

CacheType = Literal["memory", "redis"]
REDIS_URL = "redis://127.0.0.1:6379/0"
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(AnyPrediction)}


class PredictionCache(Protocol):
    """Keeps values for a while."""

    def get(self, key: str) -> bytes | None:
        """The value, None where there is none or it is too old."""

    def put(self, key: str, value: bytes) -> None:
        """Keep a value; what was not used for longest makes room."""


class MemoryCache:
    """Values of this process: the least recently used go where they are more than `max_bytes` together."""

    def __init__(self, ttl_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # until when, what
        self.bytes = 0

    def get(self, key: str) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if found[0] <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found[1]

    def put(self, key: str, value: bytes) -> None:
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock() + self._ttl_s, value)
        self.bytes += len(key) + len(value)
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: str) -> None:
        _, value = self._entries.pop(key)
        self.bytes -= len(key) + len(value)


# KEYS: value, order of use, sizes. ARGV: key, value, ttl in ms, now, max bytes. One script, so that no
# other client sees the sum and the entries disagree. Values that expired by themselves stay in the sum
# until they are the oldest: the bound is kept early, never late.
_PUT = """
local old = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or 0)
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], #ARGV[2])
local total = redis.call('HINCRBY', KEYS[3], 'total', #ARGV[2] - old)
while total > tonumber(ARGV[5]) do
    local oldest = redis.call('ZPOPMIN', KEYS[2])[1]
    if not oldest then break end
    total = redis.call('HINCRBY', KEYS[3], 'total', -(redis.call('HGET', KEYS[3], oldest) or 0))
    redis.call('HDEL', KEYS[3], oldest)
    redis.call('DEL', 'lnmt:prediction:' .. oldest)
end
"""


class RedisCache:
    """Values in a Redis server that several processes share; `max_bytes` is of all predictions in its database."""

    def __init__(self, url: str, ttl_s: float, max_bytes: int) -> None:
        try:
            import redis
        except ImportError as error:
            raise LnmtError("the Redis client is not installed", fix="pip install 'lnmt[redis]'") from error
        self._errors = redis.RedisError
        self._ttl_ms = max(1, int(ttl_s * 1000))
        self._max_bytes = max_bytes
        try:
            self._client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
        except ValueError as error:
            raise LnmtError(
                f"not the address of a Redis server: {error}",
                where="enable_cache",
                allowed="redis://HOST:PORT/DATABASE",
            ) from error
        place = self._client.connection_pool.connection_kwargs
        self._where = f"redis://{place.get('host', '')}:{place.get('port', '')}/{place.get('db', 0)}"  # no password
        self._ask(self._client.ping)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._ask(lambda: self._client.get(f"lnmt:prediction:{key}"))
        if found is not None:
            self._ask(lambda: self._client.zadd("lnmt:predictions:used", {key: time.time()}, xx=True))
        return found

    def put(self, key: str, value: bytes) -> None:
        keys = (f"lnmt:prediction:{key}", "lnmt:predictions:used", "lnmt:predictions:bytes")
        told = (key, value, self._ttl_ms, time.time(), self._max_bytes)
        self._ask(lambda: self._client.eval(_PUT, len(keys), *keys, *told))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._errors as error:
            raise LnmtError(
                f"the Redis server does not answer: {error}",
                where=self._where,
                fix="start it, name another one: enable_cache('redis', url=…), or enable_cache('memory')",
            ) from error


def make_cache(cache_type: str, ttl: float, max_size: str | int, url: str | None) -> MemoryCache | RedisCache:
    """The cache that `Model.enable_cache` asks for; `ttl` in seconds."""
    if cache_type not in get_args(CacheType):
        raise UnknownName("cache type", cache_type, get_args(CacheType), where="enable_cache")
    if not ttl > 0:
        raise LnmtError("ttl is not above 0", where="enable_cache", value=ttl, allowed="seconds > 0", fix="raise it")
    size = parse_size(max_size)
    if cache_type == "memory":
        return MemoryCache(ttl, size)
    return RedisCache(url or REDIS_URL, ttl, size)


def parse_size(size: str | int) -> int:
    """Bytes of `1GB`, `512 MiB`, `1000`. Raises LnmtError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = (found[2].upper() or "B") if found else ""
    if found is None or unit not in _UNITS or float(found[1]) <= 0:
        raise LnmtError(
            "not a size",
            where="enable_cache: max_size",
            value=size,
            allowed="a number of bytes, or such as 512MB, 1GiB",
        )
    return int(float(found[1]) * _UNITS[unit])


def cache_key(model: str, text: str) -> str:
    """The key of a text's answer by the model of this digest."""
    return hashlib.sha256(f"{model}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def dump_prediction(prediction: AnyPrediction) -> bytes:
    """A prediction as JSON: floats in full, so that it comes back as it was."""
    return json.dumps({"kind": type(prediction).__name__, **asdict(prediction)}, default=_listed).encode()


def load_prediction(data: bytes) -> AnyPrediction:
    """The prediction that `dump_prediction` wrote."""
    content = json.loads(data)
    kind = _KINDS[content.pop("kind")]
    for field in fields(kind):
        if field.name == "pooled":
            content["pooled"] = np.array(content["pooled"], dtype=np.float32)
        elif str(field.type).startswith("tuple"):
            content[field.name] = tuple(content[field.name])
    found: AnyPrediction = kind(**content)
    return found


def _listed(value: Any) -> Any:
    assert isinstance(value, np.ndarray), type(value)
    return value.tolist()
