"""Places of rows → padded tensors, made ahead by worker processes where that is asked for.

Legend: B = rows, T = tokens, C = labels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lnmt.data.batches import Examples
from lnmt.data.children import FORKS, become_child, forking
from lnmt.errors import LnmtError
from lnmt.models.base import TrainingBatch
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import IGNORED

PAD_MULTIPLE = 8  # widths are rounded up to it: fewer shapes, and aligned rows


@dataclass(frozen=True)
class Arrays:
    """A batch before it is tensors: a worker process calls nothing of torch, whose threads a fork leaves behind."""

    input_ids: NDArray[np.int64]  # [B, T]
    attention_mask: NDArray[np.int64]  # [B, T]
    labels: NDArray[Any]  # [B], [B, C] or [B, T] by task
    ids: tuple[str, ...]  # [B]

    def tensors(self, *, pin: bool = False) -> TrainingBatch:
        """The same as tensors; `pin`: in memory that a GPU copies from without waiting."""
        arrays = (self.input_ids, self.attention_mask, self.labels)
        input_ids, attention_mask, labels = (
            torch.from_numpy(array).pin_memory() if pin else torch.from_numpy(array) for array in arrays
        )
        return TrainingBatch(input_ids, attention_mask, labels, self.ids)

    def pin_memory(self) -> TrainingBatch:
        """What DataLoader's pinning thread calls."""
        return self.tensors(pin=True)


def to_batch(examples: Examples, places: NDArray[np.int64], tokenizer: Tokenizer) -> TrainingBatch:
    """The rows at `places`, padded to the longest of them."""
    return to_arrays(examples, places, tokenizer).tensors()


def longest_rows(examples: Examples, rows: int, tokenizer: Tokenizer) -> TrainingBatch:
    """The batch of `rows` rows, or of all where there are fewer, that needs the most memory."""
    return to_batch(examples, np.argsort(examples.lengths, kind="stable")[-rows:], tokenizer)


def to_arrays(examples: Examples, places: NDArray[np.int64], tokenizer: Tokenizer) -> Arrays:
    """The rows at `places`, padded to the longest of them; labels of tokens are IGNORED in padding."""
    padded = tokenizer.pad(examples.rows(places), PAD_MULTIPLE)
    real = padded.attention_mask.astype(np.bool_)
    if examples.task == "text-generation":
        labels = np.where(real, padded.input_ids, IGNORED)
    elif examples.task == "token-classification":
        labels = np.full(real.shape, IGNORED, dtype=np.int64)
        labels[real] = np.concatenate(examples.tags(places))
    else:
        labels = examples.labels[places]
    return Arrays(padded.input_ids, padded.attention_mask, labels, examples.names(places))


class Feed:
    """Gives the batches of any places in their order, the same for any number of workers.

    workers 0: a batch is made when it is asked for; some 0.1 ms, so that nothing is gained by making it aside.
    Otherwise so many processes make `prefetch` batches each ahead. They start with the first batch, serve all
    later calls, and end with `close`, or with the thread and process that asked for the first batch.
    `pin`: batches lie in pinned memory, where there is a GPU.
    """

    def __init__(
        self, examples: Examples, tokenizer: Tokenizer, *, workers: int = 0, prefetch: int = 2, pin: bool = False
    ) -> None:
        self.waited_s = 0.0  # that whoever asks for batches has waited for them
        self._rows = _Rows(examples, tokenizer)
        self._workers = workers
        self._prefetch = prefetch
        self._pin = pin and torch.cuda.is_available()
        self._places = _Places()
        self._loader: DataLoader[Arrays | TrainingBatch] | None = None
        self._processes: list[BaseProcess] = []

    def batches(self, places: Iterable[NDArray[np.int64]]) -> Iterator[TrainingBatch]:
        """One batch for each array of places. `places` is read ahead of what is given.

        Raises LnmtError where a worker was ended from outside.
        """
        made = self._made_here(places) if self._workers == 0 else self._made_aside(places)
        while True:
            start = time.perf_counter()
            try:
                batch = next(made, None)
            except RuntimeError as error:
                _tell_of_workers(error, self._workers)
                raise
            self.waited_s += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """End the workers. Nothing is left of them when it returns."""
        loader, self._loader = self._loader, None
        iterator = getattr(loader, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
        for process in self._processes:
            process.kill()
            process.join()
        self._processes = []

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        # A dead worker is told by a signal: the error may come up anywhere while the feed is open.
        if isinstance(error, RuntimeError):
            _tell_of_workers(error, self._workers)

    def _made_here(self, places: Iterable[NDArray[np.int64]]) -> Iterator[TrainingBatch]:
        for some in places:
            yield self._rows[some].tensors(pin=self._pin)

    def _made_aside(self, places: Iterable[NDArray[np.int64]]) -> Iterator[TrainingBatch]:
        self._places.now = iter(places)
        if self._loader is None:
            self._loader = self._start()
        before = set(active_children())
        with forking():
            iterator = iter(self._loader)
        self._processes += [process for process in active_children() if process not in before]
        for made in iterator:
            yield made if isinstance(made, TrainingBatch) else made.tensors()

    def _start(self) -> DataLoader[Arrays | TrainingBatch]:
        return DataLoader(
            self._rows,
            batch_size=None,  # the sampler gives whole batches
            sampler=self._places,
            num_workers=self._workers,
            prefetch_factor=self._prefetch,
            persistent_workers=True,
            pin_memory=self._pin,
            worker_init_fn=_Begin(os.getpid()),
            # forked, a worker has the rows at once and maps the same memory
            multiprocessing_context=get_context("fork" if FORKS else "spawn"),
            generator=torch.Generator(),  # else the loader would draw its seed from the model's random numbers
        )


class _Rows(Dataset[Arrays]):
    """What a worker process holds."""

    def __init__(self, examples: Examples, tokenizer: Tokenizer) -> None:
        self._examples = examples
        self._tokenizer = tokenizer

    def __getitem__(self, places: NDArray[np.int64]) -> Arrays:
        return to_arrays(self._examples, places, self._tokenizer)


class _Places(Iterable[NDArray[np.int64]]):
    """The places of the call that is being served."""

    now: Iterator[NDArray[np.int64]] = iter(())

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return self.now


@dataclass(frozen=True)
class _Begin:
    """What a worker does first."""

    parent: int

    def __call__(self, number: int) -> None:
        become_child(self.parent, ends_on_term=False)


def _tell_of_workers(error: RuntimeError, workers: int) -> None:
    """Raise LnmtError where `error` is DataLoader's news of a worker that is no more."""
    if str(error).startswith("DataLoader worker (pid"):
        raise LnmtError(
            "a process that prepares batches was ended from outside",
            where=f"params.yaml: train.workers, {workers}",
            value=str(error).splitlines()[0],
            fix="see whether memory ran out, or set train.workers: 0; the last checkpoint is kept",
        ) from error
