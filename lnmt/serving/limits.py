"""What one request may ask for, and how much may wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Refused above these: 413 for bytes, 422 for what is inside, 429 for what would have to wait."""

    body_bytes: int = 1_000_000
    characters: int = 100_000  # of one text
    rows: int = 1024  # texts of one request
    timeout_s: float = 30.0  # for one request; a caller may ask for less
    user_characters: int = 1024
    waiting_rows: int = 1024  # per bundle; a longer list is taken when nothing waits
    queue_s: float = 1.0  # no more than an engine is expected to answer in so long, but one full batch always
    batch_rows: int = 32  # of one engine call
    batch_tokens: int = 8192  # of one engine call, padding included; a longer row runs alone
    max_wait_s: float = 0.005  # for other rows, while the engine is idle
