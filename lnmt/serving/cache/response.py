"""What a cache of responses is, and what an answer is kept under."""

from __future__ import annotations

import hashlib
from typing import Literal, Protocol

from lnmt.types import Prediction

CacheEvent = Literal[
    "evicted",  # an answer made room for others
    "refused",  # an answer larger than the whole cache was not kept
    "failed",  # the cache did not answer, or not in time
    "skipped",  # it was not asked, as it had failed before
    "corrupt",  # what it held is no answer to this text
]


class ResponseCache(Protocol):
    """Keeps predictions for a while. Raises nothing: what cannot be had or kept is a miss."""

    async def get(self, key: bytes) -> Prediction | None:
        """The prediction kept under `key`, None where there is none."""

    async def put(self, key: bytes, value: Prediction) -> None:
        """Keep a prediction; `pooled` as the prediction event will have it: projected."""

    async def close(self) -> None:
        """Let go of what the cache holds open."""


def cache_key(bundle_digest: str, text: str) -> bytes:
    """What the answer of this bundle to this text is kept under: 32 bytes that show neither.

    SHA-256 of digest and text, the first with its length before it, so that no two pairs are one
    sequence of bytes. The bundle's digest covers weights, tokenizer, processors, labels and engine.
    """
    digest = bundle_digest.encode()
    hashed = hashlib.sha256(len(digest).to_bytes(8, "big"))
    hashed.update(digest)
    hashed.update(text.encode("utf-8", "surrogatepass"))
    return hashed.digest()
