"""Texts → token ids → padded batches.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.types import Batch


class Tokenizer:
    """A `tokenizer.json` (the Rust library directly: a third of the time of the transformers wrapper)."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer as RustTokenizer

        if not path.is_file():
            raise LnmtError("no tokenizer.json", where=path, fix="use an encoder that ships a fast tokenizer")
        self.max_tokens = max_tokens
        self._tokenizer = RustTokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        pad = self._tokenizer.token_to_id("[PAD]")
        self.pad_id: int = 0 if pad is None else pad

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to `max_tokens`."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def pad(self, rows: Sequence[Sequence[int] | NDArray[np.int32]], multiple: int = 8) -> Batch:
        """One batch [B, T], T the longest row rounded up to `multiple`, but not beyond `max_tokens`.

        An encoder may have no positions beyond it.
        """
        longest = max(len(row) for row in rows)
        width = max(longest, min(-(-longest // multiple) * multiple, self.max_tokens))
        input_ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        attention_mask = np.zeros((len(rows), width), dtype=np.int64)
        for index, row in enumerate(rows):
            input_ids[index, : len(row)] = row
            attention_mask[index, : len(row)] = 1
        return Batch(input_ids, attention_mask)
