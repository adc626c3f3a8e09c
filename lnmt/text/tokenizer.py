"""Texts → token ids → padded batches.

Legend: B = rows, T = tokens, W = words of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.files import sha256_file
from lnmt.types import Batch

PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>")
END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")


class Tokenizer:
    """A `tokenizer.json` (the Rust library directly: a third of the time of the transformers wrapper)."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer as RustTokenizer

        if not path.is_file():
            raise LnmtError("no tokenizer.json", where=path, fix="use an encoder that ships a fast tokenizer")
        self.path = path
        self.max_tokens = max_tokens
        self.rust: Any = RustTokenizer.from_file(str(path))
        self.rust.no_padding()
        self.rust.enable_truncation(max_tokens)
        self.pad_id: int = next(self._known(PAD_TOKENS), 0)

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the file."""
        return sha256_file(self.path)

    @property
    def library(self) -> str:
        """Version of the library, which too decides what the tokens are."""
        import tokenizers

        return str(tokenizers.__version__)

    @property
    def vocabulary(self) -> int:
        """V, the number of tokens: ids are below it."""
        return int(self.rust.get_vocab_size(with_added_tokens=True))

    @property
    def end_id(self) -> int:
        """The token that ends a text. Raises LnmtError where the vocabulary has none of END_TOKENS."""
        found = next(self._known(END_TOKENS), None)
        if found is None:
            raise LnmtError(
                "the tokenizer has no token that ends a text",
                where=self.path,
                allowed=f"one of {', '.join(END_TOKENS)}",
                fix="use the tokenizer.json of a causal language model",
            )
        return found

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to `max_tokens`."""
        return [encoding.ids for encoding in self.rust.encode_batch_fast(list(texts))]

    def encode_words(self, rows: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int | None]]]:
        """Token ids of each row of words, and the place in them where each of its words begins.

        Words are tokenised apart from one another; rows are cut to `max_tokens`. The place is None for a word
        that was cut off, or that the tokenizer has no token for.
        """
        encoded = self.rust.encode_batch([list(words) for words in rows], is_pretokenized=True)
        starts: list[list[int | None]] = []
        for words, encoding in zip(rows, encoded, strict=True):
            found: list[int | None] = [None] * len(words)
            for place, word in reversed(list(enumerate(encoding.word_ids))):
                if word is not None:
                    found[word] = place
            starts.append(found)
        return [encoding.ids for encoding in encoded], starts

    def pad(self, rows: Sequence[Sequence[int] | NDArray[np.int32]], multiple: int = 8) -> Batch:
        """One batch [B, T], T the longest row rounded up to `multiple`, but not beyond `max_tokens`.

        An encoder may have no positions beyond it.
        """
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        longest = int(lengths.max())
        width = max(longest, min(-(-longest // multiple) * multiple, self.max_tokens))
        attention_mask = np.arange(width) < lengths[:, None]
        input_ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        if isinstance(rows[0], np.ndarray):
            input_ids[attention_mask] = np.concatenate(rows)
        else:
            input_ids[attention_mask] = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return Batch(input_ids, attention_mask.astype(np.int64))

    def _known(self, names: Iterable[str]) -> Iterator[int]:
        found = (self.rust.token_to_id(name) for name in names)
        return (place for place in found if place is not None)
