"""The random states of a process, as one part of a checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


class RandomStates:
    """torch's generators of the CPU and of every CUDA device, Python's `random`, and numpy's global one."""

    def state_dict(self) -> dict[str, Any]:
        """As they are now."""
        used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        version, words, gauss = random.getstate()
        kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "torch": torch.get_rng_state(),
            # asking a device that nobody has used would take hundreds of MB of it
            "cuda": torch.cuda.get_rng_state_all() if used else [],
            "python": (version, torch.tensor(words, dtype=torch.int64), gauss),
            "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw from now on what would have been drawn then."""
        torch.set_rng_state(state["torch"])
        for device, generator in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(generator, device)
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words.tolist()), gauss))
        kind, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
