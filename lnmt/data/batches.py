"""A tokenised split, mapped into memory.

Legend: N = rows, T = tokens of all rows, B = rows of a batch, C = labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnmt.data.flat import BlockNames, Joined, Strings
from lnmt.data.order import batch_order, length_order
from lnmt.data.tables import count_rows
from lnmt.data.token_shards import Shard, Work, find_damage, open_shards, write_shards
from lnmt.files import canonical_json, clear_disk_errors, directory_digest, new_directory, sha256_bytes
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import Task

__all__ = ["Examples", "batch_order", "length_order", "load_examples"]

FORMAT = 1  # of the files, and of what stands in them


class Examples:
    """A tokenised split. Read from files, its tokens stay there: memory holds 16 bytes a row, and its label.

    tokens: [T] int32 of all rows, one after the other. starts: [N + 1] int64, where each row begins. ids: [N].
    labels, by task: text-classification [N] int64; multi-label-classification [N, C] float32; text-regression
    [N] float32; token-classification [T] int64, IGNORED where no word begins; text-generation [0] int64, since
    its rows, blocks of the texts, are their own labels.
    """

    def __init__(
        self,
        tokens: NDArray[np.int32] | Joined,
        starts: NDArray[np.int64],
        labels: NDArray[Any] | Joined,
        ids: Sequence[str],
        *,
        task: Task = "text-classification",
        digest: str | None = None,
    ) -> None:
        self._tokens = tokens
        self.starts = starts
        self.ids = ids
        self.task: Task = task
        self._labels = labels
        self._digest = digest

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens as one array; those that lie in several files are copied for it, and `rows` is to be preferred."""
        return np.asarray(self._tokens)

    @property
    def labels(self) -> NDArray[Any]:
        """The labels as one array; those of tokens that lie in several files are copied for it."""
        return np.asarray(self._labels)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, [N]."""
        return np.diff(self.starts)

    @property
    def max_length(self) -> int:
        """Tokens of the longest row, 0 where there are none."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of what the rows were made from; of the rows themselves, where they were made in memory."""
        if self._digest is not None:
            return self._digest
        arrays = [self.tokens, self.starts, self.labels]
        found = [sha256_bytes(np.ascontiguousarray(array).tobytes()) for array in arrays]
        return sha256_bytes(canonical_json([self.task, *found, list(self.ids)]))

    def rows(self, places: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """The token ids of the rows at `places`."""
        return [self._tokens[start:stop] for start, stop in self._ends(places)]

    def names(self, places: NDArray[np.int64]) -> tuple[str, ...]:
        """The ids of the rows at `places`."""
        if isinstance(self.ids, Strings):
            return tuple(self.ids.take(places))
        return tuple(self.ids[place] for place in places.tolist())

    def tags(self, places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The labels of the tokens of the rows at `places`: token-classification."""
        return [self._labels[start:stop] for start, stop in self._ends(places)]

    def _ends(self, places: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        return zip(self.starts[places].tolist(), self.starts[places + 1].tolist(), strict=True)


def load_examples(
    directory: Path,
    task: Task,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    progress: Progress,
    *,
    cache: Path,
    processes: int | None = None,
) -> Examples:
    """The split in `directory`, tokenised once for all calls: `cache` keeps it by the digest of what it is made from.

    `processes`: how many tokenise; None: one a core, or one for a small split. The rows are the same for any number.
    Raises UnknownName for a label outside `labels`; LnmtError for a row without label, text or tokens, or with a wrong
    number of tags; both name the row. Files that are damaged are made again, with a note.
    """
    made_from = {
        "format": FORMAT,
        "split": directory_digest(directory),
        "tokenizer": tokenizer.digest,
        "tokenizers": tokenizer.library,
        "max_tokens": tokenizer.max_tokens,
        "task": task,
        "labels": list(labels),
    }
    digest = sha256_bytes(canonical_json(made_from))
    entry = cache / digest.removeprefix("sha256:")
    with clear_disk_errors(cache), _locked(entry, progress.note):
        damage = find_damage(entry) if entry.exists() else None
        if damage is not None:
            progress.note(f"tokenises {directory.name} again: {damage}", where=str(entry))
        if damage is not None or not entry.exists():
            with (
                progress.bar(f"tokenise {directory.name}", count_rows(directory)) as bar,
                new_directory(entry) as target,
            ):
                write_shards(directory, target, Work(task, tuple(labels), tokenizer), bar.advance, processes)
        return _examples(open_shards(entry), task, len(labels), tokenizer.max_tokens, digest)


def _examples(shards: Sequence[Shard], task: Task, labels: int, block: int, digest: str) -> Examples:
    tokens = _join([shard.tokens for shard in shards], np.int32)
    ids: Sequence[str] = Strings([shard.ids for shard in shards])
    starts = shards[0].starts if len(shards) == 1 else _starts([shard.starts for shard in shards])
    if task == "text-generation":
        ends = starts[1:]
        starts = _block_starts(len(tokens), block)
        ids = BlockNames(ids, ends, len(starts) - 1, block)
        return Examples(tokens, starts, np.empty(0, np.int64), ids, task=task, digest=digest)
    found = [shard.labels for shard in shards if shard.labels is not None]
    if task == "token-classification":
        return Examples(tokens, starts, _join(found, np.int64), ids, task=task, digest=digest)
    shape = (0, labels) if task == "multi-label-classification" else (0,)
    kind = np.int64 if task == "text-classification" else np.float32
    return Examples(tokens, starts, np.concatenate([np.empty(shape, kind), *found]), ids, task=task, digest=digest)


def _join(parts: Sequence[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any] | Joined:
    if len(parts) > 1:
        return Joined(parts)
    return parts[0] if parts else np.empty(0, kind)


def _starts(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where rows begin, and the last ends, of files whose rows follow one another."""
    before = np.cumsum([0, *(part[-1] for part in parts)])
    begins = [part[:-1] + start for part, start in zip(parts, before, strict=False)]
    return np.concatenate([*begins, before[-1:]])


def _block_starts(tokens: int, block: int) -> NDArray[np.int64]:
    """Where blocks begin, and their end. A last block of one token has nothing to predict, and is left out."""
    blocks = math.ceil(tokens / block) - (tokens % block == 1)
    return np.minimum(np.arange(blocks + 1) * block, tokens)


@contextmanager
def _locked(entry: Path, note: Callable[[str], None]) -> Iterator[None]:
    """One process makes an entry, others wait and find it."""
    from filelock import FileLock, Timeout

    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(entry.with_name(f"{entry.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note("another process is tokenising the same split; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
