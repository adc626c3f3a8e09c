from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable

import pytest
from starlette.types import Message

from lnmt.bundles import Bundle
from lnmt.serving.body import read_body
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem
from tests.serving.conftest import Kit, MakeKit

BODY = json.dumps({"text": "a good film"}).encode()
JSON = {"Content-Type": "application/json"}


PACKS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", lambda body: zlib.compress(body)),
    ("GZip", gzip.compress),
]


@pytest.mark.parametrize(("encoding", "pack"), PACKS)
def test_a_compressed_body_is_read(kit: Kit, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    reply = kit.client.post("/predict", content=pack(BODY), headers={**JSON, "Content-Encoding": encoding})
    assert reply.status_code == 200
    assert reply.json()["label"] == kit.client.post("/predict", content=BODY, headers=JSON).json()["label"]


def test_a_bomb_is_refused_before_it_is_whole(make_kit: MakeKit, champion: Bundle) -> None:
    kit = make_kit(Limits(body_bytes=100_000))
    kit.release(1, champion)
    bomb = gzip.compress(b'{"text": "' + b"a" * 50_000_000 + b'"}')
    assert len(bomb) < 100_000
    reply = kit.client.post("/predict", content=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert (reply.status_code, reply.json()["allowed"]) == (413, "at most 100000 bytes")


@pytest.mark.parametrize(
    "body",
    [b"plain", gzip.compress(BODY)[:-4], gzip.compress(BODY) + b"more", b""],
    ids=["plain", "cut", "more", "none"],
)
def test_what_is_no_whole_stream_is_refused(kit: Kit, body: bytes) -> None:
    reply = kit.client.post("/predict", content=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert (reply.status_code, reply.json()["error"]) == (400, "the body is not gzip")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_other_encodings_are_refused(kit: Kit, encoding: str) -> None:
    reply = kit.client.post("/predict", content=BODY, headers={**JSON, "Content-Encoding": encoding})
    assert (reply.status_code, reply.json()["where"]) == (415, "Content-Encoding")
    assert reply.json()["allowed"] == "identity, gzip, deflate"


def test_a_body_that_does_not_end_is_refused() -> None:
    async def receive() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": True}
        return await asyncio.Future()

    parts = [b'{"te']
    with pytest.raises(Problem, match="the body came too slowly") as refused:
        asyncio.run(read_body({"type": "http", "headers": []}, receive, 1000, 0.01))
    assert (refused.value.status, refused.value.headers) == (408, {"Connection": "close"})
