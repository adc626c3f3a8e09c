"""Many texts → token ids in flat arrays: what takes the time is done once for each distinct word.

The words of a language repeat: of a million sentences' words, few are new. A tokenizer that splits at every space
and looks at nothing beyond one (WordPiece as BERT has it) gives a word the same tokens wherever it stands, so that
they are looked up and the rest is array arithmetic. Any other tokenizer reads whole texts.

Legend: N = texts of a call, W = their words, D = distinct ones, T = tokens of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lnmt.text.tokenizer import Tokenizer

# With these, what stands on one side of a space changes nothing on the other.
NORMALIZERS = (None, "BertNormalizer", "Lowercase")
PRE_TOKENIZERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
MODELS = ("WordPiece", "WordLevel")

REMEMBERED = 2**18  # words: about 50 MB; then it starts afresh
TOGETHER = 64  # new words that are tokenised as one row: each row has a cost of its own
FEW_NEW = 0.5  # share of new words among all, up to which looking words up is about the faster way


class Ragged(NamedTuple):
    """Rows of different lengths, one after the other."""

    values: NDArray[np.int32]  # [T]
    lengths: NDArray[np.int64]  # [N]


class BulkEncoder:
    """Gives what `Tokenizer.encode` and `Tokenizer.encode_words` give, as arrays."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import Tokenizer as RustTokenizer

        self.tokenizer = tokenizer
        self._uncut = RustTokenizer.from_str(tokenizer.rust.to_str())
        self._uncut.no_truncation()
        self._local = _splits_at_spaces(json.loads(tokenizer.rust.to_str()))
        self._memory = _Words(self._uncut)
        self._before, self._after = _special_ids(self._uncut)

    def texts(self, texts: pa.StringArray) -> Ragged:
        """Token ids of texts [N] without nulls, special tokens included, cut to `max_tokens`."""
        if self._local:
            words = pc.split_pattern(texts, " ")
            found = words.values.dictionary_encode()
            names = found.dictionary.to_pylist()
            if self._memory.count_new(names) <= FEW_NEW * len(found):
                pieces = self._memory.look_up(names, found.indices.to_numpy())
                return self._finish(pieces, words.offsets.to_numpy().astype(np.int64))[0]
        return _flat([encoding.ids for encoding in self.tokenizer.rust.encode_batch_fast(texts.to_pylist())])

    def words(self, rows: Sequence[Sequence[str]]) -> tuple[Ragged, NDArray[np.int64]]:
        """Token ids of rows [N] of words, and for each token [T] the word [W] that begins with it, else -1.

        Words are counted over all rows. They are tokenised apart, so that all tokenizers can remember them.
        """
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in rows], dtype=np.int64)])
        found = pa.array(list(chain.from_iterable(rows)), pa.string()).dictionary_encode()
        pieces = self._memory.look_up(found.dictionary.to_pylist(), found.indices.to_numpy())
        return self._finish(pieces, offsets)

    def documents(self, texts: pa.StringArray) -> Ragged:
        """Token ids of whole texts [N], however long, each with the token that ends a text behind it."""
        end = self.tokenizer.end_id
        encoded = self._uncut.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return _flat([[*encoding.ids, end] for encoding in encoded])

    def _finish(self, pieces: Ragged, offsets: NDArray[np.int64]) -> tuple[Ragged, NDArray[np.int64]]:
        """The words' tokens as rows with special tokens, cut. `offsets`: where rows begin among the words, [N + 1]."""
        ends = np.concatenate([[0], np.cumsum(pieces.lengths)])
        begins = np.full(len(pieces.values), -1, dtype=np.int64)
        filled = np.flatnonzero(pieces.lengths)
        begins[ends[filled]] = filled
        counts = np.diff(ends[offsets])
        before, after = len(self._before), len(self._after)
        kept = np.minimum(counts, self.tokenizer.max_tokens - before - after)
        lengths = kept + before + after
        starts = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty(starts[-1], dtype=np.int32)
        words = np.full(starts[-1], -1, dtype=np.int64)
        for place, token in enumerate(self._before):
            values[starts[:-1] + place] = token
        for place, token in enumerate(self._after):
            values[starts[1:] - after + place] = token
        source = _ranges(ends[offsets[:-1]], kept)
        target = _ranges(starts[:-1] + before, kept)
        values[target] = pieces.values[source]
        words[target] = begins[source]
        return Ragged(values, lengths), words


class _Words:
    """The tokens of each word met so far."""

    def __init__(self, rust: Any) -> None:
        self._rust = rust
        self._numbers: dict[str, int] = {}
        self._pieces = np.empty(0, dtype=np.int32)
        self._starts = np.zeros(1, dtype=np.int64)  # of each word's tokens in `_pieces`, and their end

    def count_new(self, names: Sequence[str]) -> int:
        """How many of these are not known yet."""
        return sum(name not in self._numbers for name in names)

    def look_up(self, names: Sequence[str], places: NDArray[np.int32]) -> Ragged:
        """The tokens of the words `names[places]`: [D] distinct ones, [W] places in them."""
        new = [name for name in names if name not in self._numbers]
        if len(self._numbers) + len(new) > REMEMBERED:
            self._numbers, self._pieces, self._starts = {}, self._pieces[:0], self._starts[:1]
            new = list(names)
        self._add(new)
        known = np.fromiter((self._numbers[name] for name in names), dtype=np.int64, count=len(names))
        numbers = known[places]
        lengths = np.diff(self._starts)[numbers]
        return Ragged(self._pieces[_ranges(self._starts[numbers], lengths)], lengths)

    def _add(self, names: Sequence[str]) -> None:
        groups = [names[at : at + TOGETHER] for at in range(0, len(names), TOGETHER)]
        # the faster `encode_batch_fast` leaves the word of each token out
        encoded = self._rust.encode_batch(groups, is_pretokenized=True, add_special_tokens=False)
        lengths = [np.bincount(one.word_ids, minlength=len(group)) for one, group in zip(encoded, groups, strict=True)]
        pieces = _flat([one.ids for one in encoded]).values
        self._pieces = np.concatenate([self._pieces, pieces])
        ends = self._starts[-1] + np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths]))
        self._starts = np.concatenate([self._starts, ends])
        self._numbers.update((name, place) for place, name in enumerate(names, len(self._numbers)))


def _flat(rows: Sequence[Sequence[int]]) -> Ragged:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return Ragged(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum())), lengths)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0] + 1, …, `lengths[0]` of them, then those from starts[1], and so on."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _splits_at_spaces(document: dict[str, Any]) -> bool:
    """Whether the tokens of a text are those of its parts between spaces, by its tokenizer.json."""
    kinds = [(document[name] or {}).get("type") for name in ("normalizer", "pre_tokenizer", "model")]
    known = all(kind in allowed for kind, allowed in zip(kinds, (NORMALIZERS, PRE_TOKENIZERS, MODELS), strict=True))
    return known and not any(" " in added["content"] for added in document["added_tokens"])


def _special_ids(rust: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    words = (rust.id_to_token(place) for place in range(rust.get_vocab_size()))
    encoded = (rust.encode(word) for word in ("a", *words) if word is not None)
    encoding = next(one for one in encoded if 0 in one.special_tokens_mask)
    mask = encoding.special_tokens_mask
    first, last = mask.index(0), len(mask) - mask[::-1].index(0)
    return encoding.ids[:first], encoding.ids[last:]
