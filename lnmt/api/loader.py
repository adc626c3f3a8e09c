"""`lnmt.DataLoader`: the batches that training sees."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lnmt.api.dataset import Dataset
from lnmt.api.places import shipped_params
from lnmt.errors import LnmtError
from lnmt.progress import Progress

if TYPE_CHECKING:
    from lnmt.models.base import TrainingBatch
    from lnmt.training.feed import Feed


class DataLoader:
    """Padded batches of a data set, of rows of similar lengths: an epoch for each `iter`.

    `tokenizer`: a `lnmt.Model`, or the path of a tokenizer.json; None: that of the shipped encoder. Epochs differ in
    their order, which is a function of `seed` and the epoch alone; without `shuffle` rows come sorted by length.
    `num_workers` processes make batches, `prefetch_factor` ahead each (0: the caller); `pin_memory` puts them where
    a GPU reads without waiting; `persistent_workers` live until `close`, others for one epoch.

    >>> data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    >>> loader = DataLoader(data, batch_size=8, tokenizer="encoder/tokenizer.json")
    >>> len(loader), sum(len(batch) for batch in loader)
    (12, 96)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
        persistent_workers: bool = False,
        *,
        tokenizer: Any = None,
        max_tokens: int | None = None,
        shuffle: bool = True,
        seed: int = 7,
    ) -> None:
        from lnmt.data.batches import load_examples
        from lnmt.text.tokenizer import Tokenizer

        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("prefetch_factor", prefetch_factor, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise LnmtError(
                    f"{name} is too small", where="lnmt.DataLoader", value=value, allowed=f"at least {least}"
                )
        self.epoch = 0  # the next one
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._workers, self._prefetch, self._pin = num_workers, prefetch_factor, pin_memory
        self._persistent = persistent_workers
        self._feed: Feed | None = None
        self._tokenizer = Tokenizer(_tokenizer_file(tokenizer), max_tokens or shipped_params().train.max_tokens)
        # Tokens may lie in files that are mapped into memory: they stay as long as the loader does.
        home = tempfile.TemporaryDirectory(prefix="lnmt-loader-", ignore_cleanup_errors=True)
        weakref.finalize(self, home.cleanup)
        dataset.write(Path(home.name) / "rows")
        self._examples = load_examples(
            Path(home.name) / "rows",
            dataset.task,
            dataset.labels,
            self._tokenizer,
            Progress(),
            cache=Path(home.name) / "tokens",
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self._examples) / self._batch_size)

    def __iter__(self) -> Iterator[TrainingBatch]:
        from lnmt.data.batches import batch_order, length_order

        if self._shuffle:
            order = batch_order(self._examples.lengths, self._batch_size, self._seed, self.epoch)
        else:
            order = length_order(self._examples.lengths, self._batch_size)
        self.epoch += 1
        feed = self._open()
        try:
            yield from feed.batches(order)
        finally:
            if not self._persistent:
                self.close()

    def close(self) -> None:
        """End the workers."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Feed:
        if self._feed is None:
            from lnmt.training.feed import Feed

            self._feed = Feed(
                self._examples, self._tokenizer, workers=self._workers, prefetch=self._prefetch, pin=self._pin
            )
        return self._feed


def _tokenizer_file(tokenizer: Any) -> Path:
    from lnmt.api.model import Model
    from lnmt.api.source import Source

    if isinstance(tokenizer, Model):
        if tokenizer.bundle is not None:
            return tokenizer.bundle.file("tokenizer.json")
        assert tokenizer.source is not None, "a model is fresh, or has a bundle"
        return tokenizer.source.fetch(Progress()) / "tokenizer.json"
    if tokenizer is None:
        return Source("the shipped encoder", None, None, None, {}).fetch(Progress()) / "tokenizer.json"
    return Path(tokenizer)
