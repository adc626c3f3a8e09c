"""Places of rows → padded tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lnmt.data.batches import Examples
from lnmt.models.base import TrainingBatch
from lnmt.text.tokenizer import Tokenizer

PAD_MULTIPLE = 8  # widths are rounded up to it: fewer shapes, and aligned rows


def to_batch(examples: Examples, places: NDArray[np.int64], tokenizer: Tokenizer) -> TrainingBatch:
    """The rows at `places`, padded to the longest of them."""
    padded = tokenizer.pad(examples.rows(places), PAD_MULTIPLE)
    return TrainingBatch(
        torch.from_numpy(padded.input_ids),
        torch.from_numpy(padded.attention_mask),
        torch.from_numpy(examples.labels[places]),
    )
