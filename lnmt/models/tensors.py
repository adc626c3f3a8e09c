"""Tensors in safetensors files, with the errors that Python's own writing would raise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors`; the same ones give the same bytes.

    Raises OSError with its errno where the file cannot be written: safetensors wraps it in an error
    of its own, which would hide a full disk from `clear_disk_errors`.
    """
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), str(error), str(path)) from error
