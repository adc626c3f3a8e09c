"""Compiled models that an engine may keep, each with the digest of what it is and what it is for.

What a back end reads back it trusts: of OpenVINO's own blobs with weights in them, changed bytes were run as they
were, and only changed headers were noticed. So a blob is read here first, and given on only where it is the one that
was written, for the same bundle, library, CPU and settings.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.files import canonical_json, write_bytes

MARK = b"lnmt-blob-1:"
TRAILER = len(MARK) + 64


class BlobCache:
    """Blobs below a directory, a file each: the blob, then a mark and the hex sha256 of blob and key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, key: Mapping[str, Any]) -> Path:
        """Where the blob of `key`, a JSON object, stands."""
        return self._directory / f"{hashlib.sha256(canonical_json(key)).hexdigest()[:32]}.blob"

    def read(self, key: Mapping[str, Any]) -> NDArray[np.uint8] | None:
        """The blob's bytes, mapped from its file; None where there is none, or one that is not to be trusted.

        The latter is noted and deleted.
        """
        path = self.path(key)
        try:
            if not path.exists():
                return None
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > TRAILER:
                    # private and writable: back ends take nothing else, and nothing is written
                    memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
                    blob = np.frombuffer(memory, dtype=np.uint8)[: size - TRAILER]
                    if bytes(memory[size - TRAILER :]) == _trailer(blob, key):
                        return blob
        except OSError as error:
            _note("an engine's cache cannot be read", path, str(error))
            return None
        self.discard(key, "it is not what was written there")
        return None

    def write(self, key: Mapping[str, Any], blob: bytes) -> None:
        """Keep a blob: whole or not at all. Where the disk is full or cannot be written, that is noted, no more."""
        path = self.path(key)
        try:
            write_bytes(path, blob + _trailer(np.frombuffer(blob, dtype=np.uint8), key))
        except OSError as error:
            _note("an engine's cache cannot be written", path, str(error))

    def discard(self, key: Mapping[str, Any], why: str) -> None:
        """Delete a blob that is of no use, and note it."""
        path = self.path(key)
        _note("an entry of an engine's cache is made again", path, why)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _note("an engine's cache cannot be written", path, str(error))


def _trailer(blob: NDArray[np.uint8], key: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(blob.data)
    digest.update(canonical_json(key))
    return MARK + digest.hexdigest().encode()


def _note(what: str, path: Path, why: str) -> None:
    from lnmt.observability.logging import get_logger  # not on the way of a start that goes well

    get_logger(__name__).warning(what, path=str(path), why=why)
