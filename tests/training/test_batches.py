from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnmt.data.batches import batch_order, length_order, load_examples
from lnmt.errors import LnmtError, UnknownName
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.training.feed import to_batch
from tests.tiny_bundle import LABELS
from tests.training.training_kit import tiny_examples, write_split

LENGTHS = np.random.default_rng(0).integers(3, 60, 5000)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 700), batch_size=st.integers(1, 9), seed=st.integers(-5, 2**40), epoch=st.integers(0, 9))
def test_every_row_comes_once_an_epoch(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = batch_order(LENGTHS[:rows], batch_size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    sizes = [len(batch) for batch in batches]
    assert sorted(sizes)[1:] == [batch_size] * (len(sizes) - 1), "at most one batch is short"


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        places: list[int] = np.concatenate(batch_order(LENGTHS, 32, seed, epoch)).tolist()
        return places

    assert flat(7, 0) == flat(7, 0)
    assert len({tuple(flat(seed, epoch)) for seed in (7, 8) for epoch in (0, 1)}) == 4


def test_rows_of_a_batch_are_of_like_length() -> None:
    def padded(batches: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> int:
        return sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)

    shuffled = np.random.default_rng(0).permutation(len(LENGTHS))
    at_random = [shuffled[at : at + 32] for at in range(0, len(LENGTHS), 32)]
    real = int(LENGTHS.sum())
    assert padded(batch_order(LENGTHS, 32, 7, 0)) < 1.03 * real
    assert padded(at_random) > 1.7 * real
    assert padded(length_order(LENGTHS, 32)) < 1.02 * real


def test_the_order_of_evaluation_is_by_length() -> None:
    batches = length_order(np.array([5, 3, 9, 3]), 3)
    assert [batch.tolist() for batch in batches] == [[1, 3, 0], [2]]


def test_a_batch_is_padded_to_its_longest_row(encoder: Path) -> None:
    examples = tiny_examples(20)
    places = np.array([3, 11, 5])
    batch = to_batch(examples, places, Tokenizer(encoder / "tokenizer.json", 64))
    longest = int(examples.lengths[places].max())
    assert batch.input_ids.shape == (3, -(-longest // 8) * 8)
    assert batch.attention_mask.sum(dim=1).tolist() == examples.lengths[places].tolist()
    assert batch.labels.tolist() == [0, 2, 2]
    first = examples.rows(places)[0]
    assert batch.input_ids[0, : len(first)].tolist() == first.tolist()


def test_a_split_is_read_in_its_order(tmp_path: Path, encoder: Path) -> None:
    rows = [("a", "good film", "positive"), ("b", "", "neutral"), ("c", "the the the", "negative")]
    tokenizer = Tokenizer(encoder / "tokenizer.json", 4)
    examples = load_examples(write_split(tmp_path / "train", [*rows]), LABELS, tokenizer, Progress(show=False))
    assert (len(examples), examples.ids, examples.labels.tolist()) == (3, ["a", "b", "c"], [2, 1, 0])
    assert examples.lengths.tolist() == [4, 2, 4], "cut to max_tokens, special tokens included"
    assert examples.rows(np.array([0]))[0].tolist() == tokenizer.encode(["good film"])[0]


def test_an_empty_split_has_no_rows(tmp_path: Path, encoder: Path) -> None:
    directory = write_split(tmp_path / "train", [])
    examples = load_examples(directory, LABELS, Tokenizer(encoder / "tokenizer.json", 4), Progress(show=False))
    assert (len(examples), examples.starts.tolist()) == (0, [0])


def test_a_label_outside_the_set_names_its_row(tmp_path: Path, encoder: Path) -> None:
    directory = write_split(tmp_path / "train", [("a", "x", "positive"), ("b", "y", "positve")])
    with pytest.raises(UnknownName, match="unknown label 'positve'") as caught:
        load_examples(directory, LABELS, Tokenizer(encoder / "tokenizer.json", 4), Progress(show=False))
    assert (caught.value.where, caught.value.fix) == (f"{directory}, row b", "did you mean 'positive'?")


def test_a_row_without_a_label_is_named(tmp_path: Path, encoder: Path) -> None:
    directory = write_split(tmp_path / "train", [("a", "x", "positive"), ("b", "y", None)])
    with pytest.raises(LnmtError, match=re.escape("a row has no label")) as caught:
        load_examples(directory, LABELS, Tokenizer(encoder / "tokenizer.json", 4), Progress(show=False))
    assert caught.value.value == "row b"
