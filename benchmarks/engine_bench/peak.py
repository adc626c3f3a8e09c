"""The machine's best rate of plain matrix products, at a model's own shapes: what every engine is held against.

A rate is the best of several ways to the same product (PyTorch's, oneDNN with packed weights, OpenVINO), each the
fastest of its calls: of a peak one wants to know what is possible, not what is usual.

Legend: M = rows times tokens, K = inputs, N = outputs of a product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

Call = Callable[[], object]
Way = Callable[[int, int, int, int], Call]  # of M, K, N and threads
SECONDS = 0.25  # of calls to one way to one product, at least
CALLS = 3


def measure_peaks(shapes: Sequence[tuple[int, int, int]], rows: int, threads: int) -> dict[str, float]:
    """10⁹ operations/s by arithmetic (`fp32`, `bf16`, `int8`) over products [M, K] × [K, N].

    `shapes`: K, N and how often each occurs; `rows` is M. A way that this machine or build lacks is left out.
    """
    torch.set_num_threads(threads)
    operations = sum(2.0 * rows * inputs * outputs * count for inputs, outputs, count in shapes)
    peaks = {}
    for arithmetic, ways in WAYS.items():
        seconds = 0.0
        for inputs, outputs, count in shapes:
            found = [_fastest(way, rows, inputs, outputs, threads) for way in ways]
            seconds += count * min((one for one in found if one is not None), default=float("inf"))
        if seconds < float("inf"):
            peaks[arithmetic] = operations / seconds / 1e9
    return peaks


def _fastest(
    way: Callable[[int, int, int, int], Call], rows: int, inputs: int, outputs: int, threads: int
) -> float | None:
    """Seconds of the fastest call; None where there is no such way here."""
    try:
        call = way(rows, inputs, outputs, threads)
        call()
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):  # torch's private operators come and go
        return None
    times: list[float] = []
    while len(times) < CALLS or sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _torch(dtype: torch.dtype) -> Way:
    def way(rows: int, inputs: int, outputs: int, threads: int) -> Call:
        states, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        return lambda: torch.nn.functional.linear(states, weight)

    return way


def _packed(dtype: torch.dtype) -> Way:
    def way(rows: int, inputs: int, outputs: int, threads: int) -> Call:
        states, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return lambda: torch.ops.mkldnn._linear_pointwise(states, packed, None, "none", [], "")

    return way


def _packed_int8(rows: int, inputs: int, outputs: int, threads: int) -> Call:
    # Activations are uint8: with int8 ones oneDNN falls back to a loop a thousand times slower where AMX is missing.
    states = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inputs])
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    settings = (0.02, 3, packed, scales, zeros, None, 1.0, 0, torch.uint8, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise(states, *settings)


def _openvino(hint: str) -> Way:
    def way(rows: int, inputs: int, outputs: int, threads: int) -> Call:
        import numpy as np
        import openvino
        from openvino import opset13 as ops

        states = ops.parameter([rows, inputs], np.float32)
        weight = ops.constant(np.random.default_rng(0).standard_normal((outputs, inputs)).astype(np.float32))
        model = openvino.Model([ops.matmul(states, weight, False, True)], [states], "product")
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
        request: Any = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return lambda: request.infer(share_inputs=True)

    return way


WAYS: dict[str, tuple[Way, ...]] = {
    "fp32": (_torch(torch.float32), _packed(torch.float32), _openvino("f32")),
    "bf16": (_torch(torch.bfloat16), _packed(torch.bfloat16)),
    "int8": (_packed_int8,),
}
