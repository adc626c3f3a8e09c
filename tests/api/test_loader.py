from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lnmt import DataLoader, Dataset, Model
from lnmt.errors import LnmtError


@pytest.fixture
def rows(here: Path) -> Dataset:
    return Dataset.from_csv("reviews.csv", text="review", label="mood")


def ids(loader: DataLoader) -> list[str]:
    return [name for batch in loader for name in batch.ids]


def test_an_epoch_has_every_row_once_and_epochs_differ(rows: Dataset) -> None:
    loader = DataLoader(rows, batch_size=10, tokenizer="encoder/tokenizer.json")
    first, second = ids(loader), ids(loader)
    everything = sorted(rows.table["id"].to_pylist())
    assert sorted(first) == sorted(second) == everything
    assert first != second
    again = DataLoader(rows, batch_size=10, tokenizer="encoder/tokenizer.json")
    assert [ids(again), ids(again)] == [first, second]
    assert (len(again), again.epoch) == (10, 2)
    assert ids(DataLoader(rows, 10, tokenizer="encoder/tokenizer.json", seed=8)) != first


def test_workers_give_the_same_batches(rows: Dataset) -> None:
    """The specification's own call."""
    alone = DataLoader(rows, batch_size=32, tokenizer="encoder/tokenizer.json")
    with DataLoader(
        rows,
        batch_size=32,
        num_workers=2,
        pin_memory=True,
        prefetch_factor=2,
        persistent_workers=True,
        tokenizer="encoder/tokenizer.json",
    ) as loader:
        for _ in range(2):
            for one, other in zip(alone, loader, strict=True):
                assert one.ids == other.ids
                assert torch.equal(one.input_ids, other.input_ids)
                assert torch.equal(one.labels, other.labels)


def test_without_shuffling_rows_come_by_length(rows: Dataset) -> None:
    loader = DataLoader(rows, batch_size=16, tokenizer="encoder/tokenizer.json", shuffle=False)
    lengths = [int(row.sum()) for batch in loader for row in batch.attention_mask]
    assert lengths == sorted(lengths)


def test_a_model_brings_its_tokenizer(rows: Dataset) -> None:
    batches = [
        next(iter(DataLoader(rows, 8, tokenizer=one, max_tokens=32)))
        for one in (Model("encoder"), Model("models/mood"))
    ]
    assert torch.equal(batches[0].input_ids, batches[1].input_ids)


@pytest.mark.parametrize("said", [{"batch_size": 0}, {"num_workers": -1}, {"prefetch_factor": 0}])
def test_what_is_too_small_is_told(rows: Dataset, said: dict[str, int]) -> None:
    with pytest.raises(LnmtError, match=f"{next(iter(said))} is too small"):
        DataLoader(rows, **said)  # type: ignore[arg-type]


def test_a_tokenizer_that_is_not_there_is_told(rows: Dataset) -> None:
    with pytest.raises(LnmtError, match=r"no tokenizer\.json"):
        DataLoader(rows, tokenizer="nowhere/tokenizer.json")
