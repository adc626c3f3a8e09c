from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lnmt.errors import LnmtError
from lnmt.models.base import BaseModel, Inputs
from lnmt.models.classifier import EncoderClassifier
from lnmt.training.memory import is_out_of_memory
from tests.training.training_kit import make_loop

FITS = 4  # rows


class Hungry(EncoderClassifier):
    """Asks for a petabyte where a batch has more than FITS rows: the allocator's own refusal."""

    def forward(self, inputs: Inputs) -> Any:
        if len(inputs["input_ids"]) > FITS:
            torch.empty(2**50, dtype=torch.uint8)
        return super().forward(inputs)


def hungry(model: BaseModel) -> BaseModel:
    model.__class__ = Hungry
    return model


def test_the_allocators_refusal_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.usefixtures("one_thread")
def test_a_batch_that_finds_no_room_is_told_which_size_does(tmp_path: Path, encoder: Path) -> None:
    loop = make_loop(tmp_path, encoder, batch_size=32)
    hungry(loop.execution.model)
    with pytest.raises(LnmtError, match="a batch is too large for the memory") as caught:
        loop.run()
    error = caught.value
    assert (error.where, error.value) == ("step 1, params.yaml: train.batch_size", 32)
    assert error.allowed == "4 fits, tried with the longest rows"
    assert error.fix is not None
    assert error.fix.startswith("set train.batch_size: 4 and train.accumulate: 8, or ")


@pytest.mark.usefixtures("one_thread")
def test_where_no_size_fits_the_texts_are_too_long(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.test_memory.FITS", 0)
    loop = make_loop(tmp_path, encoder, batch_size=8)
    hungry(loop.execution.model)
    with pytest.raises(LnmtError, match="not even 1 row fits") as caught:
        loop.run()
    assert caught.value.fix is not None
    assert caught.value.fix.startswith("lower train.max_tokens")
