"""OpenVINO on the CPU.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.blobs import BlobCache
from lnmt.runtime.cpu import available_cores, this_cpu
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.grouping import Arrays, Group, cut, join
from lnmt.runtime.options import Options
from lnmt.runtime.signal_stack import kept_signal_stack
from lnmt.types import Batch, Output

MODEL, WEIGHTS = "model.xml", "model.bin"
PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoEngine:
    """Runs `model.xml` with `model.bin`; inputs `input_ids`, `attention_mask` [B, T], outputs `logits`, `pooled`.

    The precision is always said: left to itself OpenVINO takes bf16 wherever the CPU has it. With `group_rows` a
    batch runs group by group, with `streams` so many groups side by side on fewer threads each; a batch that is one
    group has all threads still, for which the model is compiled twice. How the threads of a process that has all
    cores are pinned made no difference on the machines tried, nor did hyper-threads. One that has a part of the cores
    leaves its threads free: OpenVINO would pin those of every such process to the same cores.
    """

    def __init__(self) -> None:
        self._request: Any = None  # for one batch on all threads
        self._blob: Any = None
        self._streams: _Streams | None = None
        self._options = Options()
        self._bundle: Bundle

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        self._bundle = bundle
        self._options = Options.of(bundle, ("group_rows", "streams"))
        threads = threads or available_cores()
        streams = min(self._options.streams, threads)
        precision = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[bundle.manifest.precision],
            "INFERENCE_NUM_THREADS": str(threads),
        }
        if threads < available_cores():
            precision["ENABLE_CPU_PINNING"] = "NO"
        with kept_signal_stack():
            single = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
            compiled, self._blob = _compile(bundle, precision | single, cache)
            self._request = compiled.create_infer_request()
            if streams > 1 and self._options.group_rows is not None:
                several = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
                self._streams = _Streams(*_compile(bundle, precision | several, cache))

    def warm_up(self) -> None:
        self.infer(warm_up_batch())
        if self._streams is not None:
            # as many groups as every stream needs to have had one: each makes its own copy of the graph then
            groups = cut(warm_up_batch(), None, 1) * (2 * self._options.streams)
            self._streams.run(groups)

    def infer(self, batch: Batch) -> Output:
        assert self._request is not None, "load first"
        manifest = self._bundle.manifest
        with explained("openvino", batch):
            groups = cut(batch, self._options.group_size(len(batch.input_ids)), manifest.pad_multiple)
            if self._streams is None or len(groups) == 1:
                answers = [self._run(group.batch) for group in groups]
            else:
                answers = self._streams.run(groups)
            logits, pooled = join(groups, answers, batch, manifest.task)
        return checked_output("openvino", batch, logits, pooled, manifest.task)

    def close(self) -> None:
        with kept_signal_stack():
            self._request = self._streams = self._blob = None

    def _run(self, batch: Batch) -> Arrays:
        self._request.infer(_feed(batch), share_inputs=True)
        return _outputs(self._request)


class _Streams:
    """Groups side by side: OpenVINO hands the requests that wait to the streams, in the order of their start."""

    def __init__(self, compiled: Any, blob: Any) -> None:
        self._compiled = compiled
        self._blob = blob
        self._requests: list[Any] = []

    def run(self, groups: Sequence[Group]) -> list[Arrays]:
        """The groups' answers, in their order."""
        while len(self._requests) < len(groups):
            self._requests.append(self._compiled.create_infer_request())
        used = self._requests[: len(groups)]
        started = []
        try:
            for request, group in zip(used, groups, strict=True):
                request.start_async(_feed(group.batch), share_inputs=True)
                started.append(request)
        finally:
            for request in started:  # also where one could not be started: none may run on into the next call
                request.wait()
        return [_outputs(request) for request in used]


def _feed(batch: Batch) -> dict[str, Any]:
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


def _outputs(request: Any) -> Arrays:
    # Copies: the request's own tensors are overwritten by the next call.
    return request.get_tensor("logits").data.copy(), request.get_tensor("pooled").data.copy()


def _compile(bundle: Bundle, settings: dict[str, str], cache: Path | None) -> tuple[Any, Any]:
    """The compiled model, out of the cache if it has one, else compiled and put there; and the blob that it is
    read from, whose memory must outlive it.
    """
    model, weights = bundle.file(MODEL), bundle.file(WEIGHTS)
    # floats stay in the bundle's own, verified file: the blob is then small
    settings = settings | {"CACHE_MODE": "OPTIMIZE_SIZE"}
    blobs = None if cache is None else BlobCache(cache / "openvino" / bundle.digest.removeprefix("sha256:")[:16])
    key = {
        "bundle": bundle.digest,
        "openvino": openvino.get_version(),
        "cpu": sorted(this_cpu().all_flags),
        "settings": settings,
    }
    core = openvino.Core()
    found = None if blobs is None else blobs.read(key)
    if blobs is not None and found is not None:
        try:
            blob = openvino.Tensor(found, shared_memory=True)
            return core.import_model(blob, "CPU", settings | {"WEIGHTS_PATH": str(weights)}), blob
        except RuntimeError as error:
            blobs.discard(key, str(error).strip()[:300])
    try:
        compiled = core.compile_model(str(model), "CPU", settings)
    except RuntimeError as error:
        raise _cannot_load(model, error) from error
    if blobs is not None:
        _keep(compiled, key, blobs)
    return compiled, None


def _keep(compiled: Any, key: dict[str, Any], blobs: BlobCache) -> None:
    try:
        exported = compiled.export_model()
    except RuntimeError as error:  # a model that cannot be exported is compiled at each load
        blobs.discard(key, str(error).strip()[:300])
        return
    blobs.write(key, exported if isinstance(exported, bytes) else exported.getvalue())


def _cannot_load(model: Path, error: RuntimeError) -> LnmtError:
    text = str(error)
    if "alloc" in text.lower() or "memory" in text.lower():
        return LnmtError(
            f"not enough memory for the model: {text.strip().splitlines()[-1][:300]}",
            where=model,
            fix="stop other programs, or use a smaller model",
        )
    return LnmtError(f"OpenVINO cannot load the model: {text}", where=model, fix="make the bundle again: lnmt optimize")
