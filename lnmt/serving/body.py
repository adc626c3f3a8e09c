"""A request's body, read within a bound: before and after it is decompressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope

from lnmt.serving.problems import Problem

# wbits of zlib; br and zstd are left to those who stand in front
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def too_large(limit: int) -> Problem:
    """The refusal of a body above `limit` bytes."""
    return Problem(
        413,
        "the body is too large",
        where="body",
        allowed=f"at most {limit} bytes",
        fix="send fewer texts a request",
        headers={"Connection": "close"},  # the rest of the body is not read
    )


async def read_body(scope: Scope, receive: Receive, limit: int, timeout_s: float) -> bytes:
    """The whole body, decompressed as Content-Encoding says. `receive` bounds what comes in (the Guard's).

    Raises Problem 413 as soon as more than `limit` bytes would come out, 415 for an encoding that is not
    taken, 400 for a stream that is none or ends early, 408 where it is not whole after `timeout_s`.
    """
    encoding = _encoding(scope)
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(encoding, receive, limit)
    except TimeoutError:
        raise Problem(
            408,
            "the body came too slowly",
            where="body",
            allowed=f"at most {timeout_s:g} s",
            fix="send it at once",
            headers={"Connection": "close"},
        ) from None


async def _read(encoding: str, receive: Receive, limit: int) -> bytes:
    if encoding == "identity":
        return b"".join([part async for part in _parts(receive)])
    inflate = zlib.decompressobj(ENCODINGS[encoding])
    found = bytearray()
    try:
        async for part in _parts(receive):
            found += inflate.decompress(part, limit + 1 - len(found))
            if len(found) > limit:
                raise too_large(limit)
    except zlib.error:
        raise _corrupt(encoding) from None
    if not inflate.eof or inflate.unused_data:
        raise _corrupt(encoding)
    return bytes(found)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "the body ended early", where="body", fix="send it whole")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _encoding(scope: Scope) -> str:
    given = [value.decode("latin-1").strip().lower() for key, value in scope["headers"] if key == b"content-encoding"]
    encoding = ", ".join(given) or "identity"
    if encoding != "identity" and encoding not in ENCODINGS:
        raise Problem(
            415,
            "this compression is not taken",
            where="Content-Encoding",
            allowed=", ".join(["identity", *ENCODINGS]),
            fix="send the body uncompressed, or in one of these",
        )
    return encoding


def _corrupt(encoding: str) -> Problem:
    return Problem(400, f"the body is not {encoding}", where="body", allowed="one whole stream", fix="compress it anew")
