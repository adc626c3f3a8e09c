"""When two texts count as the same: the wording that duplicates, splits and the leak check go by.

Legend: N = rows.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray


def text_key(text: str) -> str:
    """The wording of a text: compatibility forms, case, punctuation and white space do not count.

    A text of punctuation alone keeps it: `:)` and `:(` are not the same.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_punctuation()).split()) or " ".join(folded.split())


def text_hashes(texts: Iterable[str], salt: str = "") -> NDArray[np.uint64]:
    """128 bits of SHA-256 of each text's wording, as [N, 2]; another salt gives independent bits."""
    return hashes((text_key(text) for text in texts), salt)


def hashes(values: Iterable[str], salt: str = "") -> NDArray[np.uint64]:
    """128 bits of SHA-256 of each value as it stands, as [N, 2]."""
    salted = hashlib.sha256(f"{salt}\0".encode())
    parts = []
    for value in values:
        digest = salted.copy()
        digest.update(value.encode("utf-8", "surrogatepass"))
        parts.append(digest.digest()[:16])
    return np.frombuffer(b"".join(parts), dtype=">u8").astype(np.uint64).reshape(-1, 2)


@cache
def _punctuation() -> dict[int, str]:
    points = range(sys.maxunicode + 1)
    return {point: " " for point in points if unicodedata.category(chr(point)).startswith("P")}
