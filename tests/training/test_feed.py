from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from multiprocessing import Pipe, active_children, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from lnmt.data.batches import Examples, batch_order, load_examples
from lnmt.data.flat import Joined
from lnmt.data.tables import ShardWriter, table_schema
from lnmt.errors import LnmtError
from lnmt.models.base import TrainingBatch
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import Feed, longest_rows, to_batch
from lnmt.types import IGNORED
from tests.tiny_bundle import tiny_tokenizer

ROWS = 60


def tokenizer_at(directory: Path) -> Tokenizer:
    tiny_tokenizer(directory / "tokenizer.json")
    return Tokenizer(directory / "tokenizer.json", 20)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_at(tmp_path_factory.mktemp("tokenizer"))


def examples_of(rows: int) -> Examples:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 15, rows)
    return Examples(
        random.integers(5, 80, int(lengths.sum())).astype(np.int32),
        np.concatenate([[0], lengths.cumsum()]),
        np.arange(rows) % 3,
        [f"row-{place}" for place in range(rows)],
    )


def order(epoch: int, batch_size: int = 8) -> list[NDArray[np.int64]]:
    return list(batch_order(examples_of(ROWS).lengths, batch_size, 7, epoch))


def content(batch: TrainingBatch) -> tuple[Any, ...]:
    return batch.input_ids.tolist(), batch.attention_mask.tolist(), batch.labels.tolist(), batch.ids


def contents(batches: Iterator[TrainingBatch]) -> list[tuple[Any, ...]]:
    return [content(batch) for batch in batches]


def test_a_batch_is_padded_to_its_longest_row(tokenizer: Tokenizer) -> None:
    examples, places = examples_of(20), np.array([3, 11, 5])
    batch = to_batch(examples, places, tokenizer)
    longest = int(examples.lengths[places].max())
    assert batch.input_ids.shape == (3, -(-longest // 8) * 8)
    assert batch.attention_mask.sum(dim=1).tolist() == examples.lengths[places].tolist()
    assert (batch.labels.tolist(), batch.ids) == ([0, 2, 2], ("row-3", "row-11", "row-5"))
    for line, row in enumerate(examples.rows(places)):
        assert batch.input_ids[line].tolist() == [*row.tolist(), *[0] * (batch.input_ids.shape[1] - len(row))]
    assert {batch.input_ids.dtype, batch.attention_mask.dtype, batch.labels.dtype} == {torch.int64}


def test_labels_of_tokens_are_padded_with_ignored(tokenizer: Tokenizer) -> None:
    tokens, starts = np.arange(5, 10, dtype=np.int32), np.array([0, 2, 5])
    tags = np.array([IGNORED, 1, 0, IGNORED, 2])
    for labels in (tags, Joined([tags[:2], tags[2:]])):
        examples = Examples(tokens, starts, labels, ["a", "b"], task="token-classification")
        batch = to_batch(examples, np.array([1, 0]), tokenizer)
        padding = [IGNORED] * 5
        assert batch.labels.tolist() == [[0, IGNORED, 2, *padding], [IGNORED, 1, IGNORED, *padding]]


def test_text_is_its_own_label(tokenizer: Tokenizer) -> None:
    examples = Examples(
        np.array([5, 0, 7], np.int32), np.array([0, 2, 3]), np.empty(0, np.int64), ["a", "b"], task="text-generation"
    )
    batch = to_batch(examples, np.array([0, 1]), tokenizer)
    assert batch.labels[:, :3].tolist() == [[5, 0, IGNORED], [7, IGNORED, IGNORED]], "a token may be the padding's"
    assert (batch.labels[:, 3:] == IGNORED).all()


@pytest.mark.parametrize("labels", [np.eye(3, dtype=np.float32), np.array([0.5, -2, 1], np.float32)])
def test_labels_of_rows_keep_their_shape(tokenizer: Tokenizer, labels: NDArray[np.float32]) -> None:
    examples = Examples(np.array([5, 6, 7], np.int32), np.arange(4), labels, ["a", "b", "c"])
    batch = to_batch(examples, np.array([2, 0]), tokenizer)
    assert (batch.labels.tolist(), batch.labels.dtype) == (labels[[2, 0]].tolist(), torch.float32)


def test_the_longest_rows_are_found(tokenizer: Tokenizer) -> None:
    examples = examples_of(ROWS)
    lengths = sorted(examples.lengths.tolist())
    assert longest_rows(examples, 4, tokenizer).attention_mask.sum(dim=1).tolist() == lengths[-4:]
    assert len(longest_rows(examples, 1000, tokenizer)) == ROWS


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_any_number_of_workers_gives_the_same_batches(tokenizer: Tokenizer, workers: int) -> None:
    examples = examples_of(ROWS)
    expected = [content(to_batch(examples, places, tokenizer)) for places in order(0)]
    with Feed(examples, tokenizer) as here, Feed(examples, tokenizer, workers=workers) as aside:
        assert contents(here.batches(order(0))) == expected
        assert contents(aside.batches(iter(order(0)))) == expected
        assert contents(aside.batches(order(1))) == contents(here.batches(order(1))) != expected
        assert list(aside.batches([])) == []


def test_workers_live_from_the_first_batch_until_they_are_closed(tokenizer: Tokenizer) -> None:
    with Feed(examples_of(ROWS), tokenizer, workers=2) as feed:
        assert active_children() == []
        next(feed.batches(order(0)))
        workers = active_children()
        assert len(workers) == 2
        assert contents(feed.batches(order(1)[:2])) == contents(
            Feed(examples_of(ROWS), tokenizer).batches(order(1)[:2])
        )
        assert active_children() == workers, "also after a call that was left early"
    assert active_children() == []
    assert not any(psutil.pid_exists(worker.pid or 0) for worker in workers)
    feed.close()


def test_places_are_read_no_further_than_prefetch(tokenizer: Tokenizer) -> None:
    asked: list[int] = []

    def places() -> Iterator[NDArray[np.int64]]:
        for place in range(ROWS):
            asked.append(place)
            yield np.array([place])

    with Feed(examples_of(ROWS), tokenizer, workers=2, prefetch=3) as feed:
        next(feed.batches(places()))
        assert len(asked) == 2 * 3 + 1
    asked.clear()
    next(Feed(examples_of(ROWS), tokenizer).batches(places()))
    assert asked == [0]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_models_random_numbers_stay(tokenizer: Tokenizer, workers: int) -> None:
    before = torch.get_rng_state()
    with Feed(examples_of(ROWS), tokenizer, workers=workers) as feed:
        assert len(list(feed.batches(order(0)))) == 8
    assert torch.equal(torch.get_rng_state(), before)


def test_waiting_is_measured(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 20.0, 20.25, 30.0, 30.0])
    feed = Feed(examples_of(ROWS), tokenizer)
    monkeypatch.setattr("lnmt.training.feed.time.perf_counter", lambda: next(times))
    assert len(list(feed.batches(order(0)[:2]))) == 2
    assert feed.waited_s == 0.75


def test_a_worker_that_dies_is_told(tokenizer: Tokenizer) -> None:
    with (
        pytest.raises(LnmtError, match="a process that prepares batches was ended from outside") as caught,
        Feed(examples_of(ROWS), tokenizer, workers=2) as feed,
    ):
        batches = feed.batches(np.array([place % ROWS]) for place in range(10_000))
        next(batches)
        os.kill(active_children()[0].pid or 0, signal.SIGKILL)
        list(batches)
    assert "DataLoader worker (pid" in str(caught.value.value)
    assert active_children() == []


def test_an_error_while_it_is_open_ends_the_workers(tokenizer: Tokenizer) -> None:
    with pytest.raises(RuntimeError, match="of the model"), Feed(examples_of(ROWS), tokenizer, workers=2) as feed:
        next(feed.batches(order(0)))
        raise RuntimeError("of the model")
    assert active_children() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_their_parent(tokenizer: Tokenizer, number: signal.Signals) -> None:
    with Feed(examples_of(ROWS), tokenizer, workers=2, prefetch=1) as feed:
        batches = feed.batches(order(0))
        first = next(batches)
        for worker in active_children():
            os.kill(worker.pid or 0, number)
        found = [first, *batches]
    assert contents(iter(found)) == contents(Feed(examples_of(ROWS), tokenizer).batches(order(0)))


def hold_workers(tokenizer: Tokenizer, told: Connection) -> None:
    feed = Feed(examples_of(ROWS), tokenizer, workers=2)
    next(feed.batches(order(0)))
    told.send([process.pid for process in active_children()])
    signal.pause()


def test_workers_end_with_a_parent_that_is_killed(tokenizer: Tokenizer) -> None:
    here, there = Pipe()
    parent = get_context("fork").Process(target=hold_workers, args=(tokenizer, there))
    parent.start()
    workers = [psutil.Process(pid) for pid in here.recv()]
    parent.kill()
    parent.join()
    assert len(workers) == 2
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert (len(gone), alive) == (2, [])


def test_rows_in_files_are_fed_alike_and_travel_to_other_processes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    schema = table_schema(())
    texts = [f"the {'film ' * (place % 5)}" for place in range(ROWS)]
    with ShardWriter(tmp_path / "train", schema, 25) as writer:
        columns = [[f"row-{place}" for place in range(ROWS)], texts, ["x", "y"] * (ROWS // 2)]
        writer.write(pa.record_batch([pa.array(column) for column in columns], schema=schema))
    examples = load_examples(
        tmp_path / "train",
        "text-classification",
        ("x", "y"),
        tokenizer,
        Progress(show=False),
        cache=tmp_path / "cache",
        processes=1,
    )
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 3
    places = list(batch_order(examples.lengths, 8, 7, 0))
    with Feed(examples, tokenizer, workers=1) as feed:
        found = contents(feed.batches(places))
    assert found == contents(Feed(examples, tokenizer).batches(places))
    assert sorted(name for batch in found for name in batch[3]) == sorted(f"row-{place}" for place in range(ROWS))
    sent = pickle.loads(pickle.dumps(examples))
    assert content(to_batch(sent, places[0], pickle.loads(pickle.dumps(tokenizer)))) == found[0]


@pytest.mark.requires_gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_are_the_same(tokenizer: Tokenizer, workers: int) -> None:
    examples = examples_of(ROWS)
    with Feed(examples, tokenizer, workers=workers, pin=True) as feed:
        found = list(feed.batches(order(0)))
    assert all(batch.input_ids.is_pinned() and batch.labels.is_pinned() for batch in found)
    assert contents(iter(found)) == contents(Feed(examples, tokenizer).batches(order(0)))
