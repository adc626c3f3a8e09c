"""What runs a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from lnmt.bundles import Bundle
from lnmt.types import Batch, Output


class Engine(Protocol):
    """One back end with one bundle loaded. Not thread-safe: one caller at a time."""

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        """Read the model. `threads` of the back end (None: one per core); `cache` keeps compiled blobs."""

    def warm_up(self) -> None:
        """Run once, so that the first request pays for nothing."""

    def infer(self, batch: Batch) -> Output:
        """logits [B, C] and pooled [B, H] of a padded batch."""

    def close(self) -> None:
        """Give its memory back; the engine is not used again."""
