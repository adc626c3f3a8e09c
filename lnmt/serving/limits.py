"""What one request may ask for, and how much may wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Refused above these: 413 for bytes, 422 for what is inside, 429 for what would have to wait."""

    body_bytes: int = 1_000_000
    characters: int = 100_000  # of one text
    rows: int = 1024  # texts of one request
    user_characters: int = 1024
    waiting_rows: int = 1024  # per bundle; a longer list is taken when nothing waits
    batch_rows: int = 32
