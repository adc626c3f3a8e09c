"""The machine's best rate of plain matrix products, at a model's own shapes: what every engine is held against.

A rate is the better of two ways to the same product (PyTorch's own, oneDNN's with packed weights), each the fastest
of its calls: of a peak one wants to know what is possible, not what is usual. For the same reason it is one
thread's rate by its own clock, times the cores: what other programs take of them meanwhile, and what threads lose by
waiting for each other, is not on the bill. Two hyper-threads of a core count once, where the system tells of them.

Legend: M = rows times tokens, K = inputs, N = outputs of a product.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lnmt.runtime.cpu import available_cores

Call = Callable[[], object]
Way = Callable[[int, int, int], Call]  # of M, K and N
SECONDS = 0.15  # of calls to one way to one product, at least
CALLS = 3
MOST_ROWS = 512  # M: products of more rows are no faster, and those of a vocabulary take seconds


def measure_peaks(shapes: Sequence[tuple[int, int, int]], rows: int, cores: int) -> dict[str, float]:
    """10⁹ operations/s by arithmetic (`fp32`, `bf16`, `int8`) over products [M, K] × [K, N].

    `shapes`: K, N and how often each occurs; `rows` is M, of which at most 512 are
    measured. A way that this machine or build lacks is left out.
    """
    used = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: rate * cores for name, rate in _rates(shapes, min(rows, MOST_ROWS)).items()}
    finally:
        torch.set_num_threads(used)


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Cores that this process may use, hyper-threads of one counted once."""
    files = [topology / f"cpu{place}/topology/thread_siblings_list" for place in range(os.cpu_count() or 1)]
    cores = {file.read_text(encoding="ascii") for file in files if file.is_file()}
    return min(available_cores(), len(cores) or available_cores())


def _rates(shapes: Sequence[tuple[int, int, int]], rows: int) -> dict[str, float]:
    operations = sum(2.0 * rows * inputs * outputs * count for inputs, outputs, count in shapes)
    peaks = {}
    for arithmetic, ways in WAYS.items():
        seconds = 0.0
        for inputs, outputs, count in shapes:
            found = [_fastest(way, rows, inputs, outputs) for way in ways]
            seconds += count * min((one for one in found if one is not None), default=float("inf"))
        if seconds < float("inf"):
            peaks[arithmetic] = operations / seconds / 1e9
    return peaks


def _fastest(way: Way, rows: int, inputs: int, outputs: int) -> float | None:
    """Seconds of the fastest call on one thread; None where there is no such way here."""
    try:
        call = way(rows, inputs, outputs)
        call()
    except (RuntimeError, AttributeError):  # torch has no such operator here, or none for these numbers
        return None
    times: list[float] = []
    while len(times) < CALLS or sum(times) < SECONDS:
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


def _torch(dtype: torch.dtype) -> Way:
    def way(rows: int, inputs: int, outputs: int) -> Call:
        states, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        return lambda: torch.nn.functional.linear(states, weight)

    return way


def _packed(dtype: torch.dtype) -> Way:
    def way(rows: int, inputs: int, outputs: int) -> Call:
        states, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return lambda: torch.ops.mkldnn._linear_pointwise(states, packed, None, "none", [], "")

    return way


def _packed_int8(rows: int, inputs: int, outputs: int) -> Call:
    # Activations are uint8: with int8 ones oneDNN falls back to a loop a thousand times slower where AMX is missing.
    states = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inputs])
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    settings: tuple[Any, ...] = (0.02, 3, packed, scales, zeros, None, 1.0, 0, torch.uint8, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(states, *settings)


WAYS: dict[str, tuple[Way, ...]] = {
    "fp32": (_torch(torch.float32), _packed(torch.float32)),
    "bf16": (_torch(torch.bfloat16), _packed(torch.bfloat16)),
    "int8": (_packed_int8,),
}
