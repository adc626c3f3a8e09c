"""ONNX Runtime: on the CPU, or on an NVIDIA GPU where its build for CUDA is installed.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import onnxruntime

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.runtime.cpu import available_cores
from lnmt.runtime.engine import checked_output, explained, warm_up_batch
from lnmt.runtime.grouping import Arrays, Group, cut, join
from lnmt.runtime.onnx_file import check_external_data
from lnmt.runtime.options import Options
from lnmt.types import Batch, Output

MODEL = "model.onnx"
CPU = "CPUExecutionProvider"
Provider = tuple[str, dict[str, str]]  # its name and options
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": CPU}
DEFAULTS = ("cuda", "cpu")  # TensorRT's compiles for minutes when it loads: only where the settings ask for it


class OnnxRuntimeEngine:
    """Runs `model.onnx`; its inputs are `input_ids` and `attention_mask` [B, T], its outputs `logits` and `pooled`.

    On the provider that the settings name, else on the first of CUDA and CPU that this build of ONNX Runtime has;
    what a GPU's provider cannot run, the next one in the order TensorRT, CUDA, CPU does. With `group_rows` a batch runs
    group by group; on a CPU with `streams` so many groups side by side, each on its share of the threads. A batch that
    is one group has all threads still, for which the model is loaded twice.
    """

    def __init__(self) -> None:
        self._session: Any = None  # for one batch on all threads
        self._streams: _Streams | None = None
        self._options = Options()
        self._bundle: Bundle

    def load(self, bundle: Bundle, *, threads: int | None, cache: Path | None) -> None:
        model = bundle.file(MODEL)
        self._bundle = bundle
        self._options = Options.of(bundle, ("group_rows", "streams", "provider"))
        check_external_data(model)
        providers = choose_providers(bundle, self._options.provider, onnxruntime.get_available_providers(), cache)
        threads = threads or available_cores()
        self._session = _open_session(model, threads, providers)
        streams = min(self._options.streams, threads)
        if streams > 1 and self._options.group_rows is not None and providers[0][0] == CPU:
            self._streams = _Streams(model, streams, threads // streams, providers)

    def warm_up(self) -> None:
        self.infer(warm_up_batch())
        if self._streams is not None:
            self._streams.warm_up()

    def infer(self, batch: Batch) -> Output:
        assert self._session is not None, "load first"
        manifest = self._bundle.manifest
        with explained("onnxruntime", batch):
            groups = cut(batch, self._options.group_size(len(batch.input_ids)), manifest.pad_multiple)
            if self._streams is None or len(groups) == 1:
                answers = [_run(self._session, group.batch) for group in groups]
            else:
                answers = self._streams.run(groups)
            logits, pooled = join(groups, answers, batch, manifest.task)
        return checked_output("onnxruntime", batch, logits, pooled, manifest.task)

    def close(self) -> None:
        if self._streams is not None:
            self._streams.close()
        self._session = self._streams = None


class _Streams:
    """Groups side by side, each in a thread of its own: ONNX Runtime computes in the thread that calls it."""

    def __init__(self, model: Path, streams: int, threads: int, providers: Sequence[Provider]) -> None:
        # Sessions of one thread have no pool of threads to quarrel over: one serves all streams.
        sessions = [_open_session(model, threads, providers) for _ in range(streams if threads > 1 else 1)]
        self._sessions = [sessions[stream % len(sessions)] for stream in range(streams)]
        self._pool = ThreadPoolExecutor(streams - 1, "onnxruntime-stream")  # the caller's thread is the first stream

    def warm_up(self) -> None:
        """Each session once."""
        for session in self._sessions:
            _run(session, warm_up_batch())

    def run(self, groups: Sequence[Group]) -> list[Arrays]:
        """The groups' answers, in their order. Raises what a group raised, once none is under way."""
        answers: list[Arrays | None] = [None] * len(groups)
        waiting = iter(range(len(groups)))  # taken from by all streams: its `next` is one step of the interpreter

        def work(session: Any) -> None:
            for place in waiting:
                answers[place] = _run(session, groups[place].batch)

        others = [self._pool.submit(work, session) for session in self._sessions[1:]]
        try:
            work(self._sessions[0])
        finally:
            wait(others)
        for other in others:
            other.result()
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _open_session(model: Path, threads: int, providers: Sequence[Provider]) -> Any:
    try:
        session = onnxruntime.InferenceSession(str(model), _session_options(threads), providers=providers)
    except Exception as error:  # onnxruntime raises a dozen classes of its own, straight from C++
        raise _cannot_load(model, error) from error
    first = providers[0][0]
    if session.get_providers()[0] != first:
        raise LnmtError(
            f"ONNX Runtime cannot start {first}, and would run elsewhere without a word",
            where=model,
            value=", ".join(session.get_providers()),
            allowed=first,
            fix="see: lnmt doctor; or run `lnmt optimize` on the machine that serves",
        )
    return session


def _run(session: Any, batch: Batch) -> Arrays:
    feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    logits, pooled = session.run(["logits", "pooled"], feed)
    return logits, pooled


def choose_providers(bundle: Bundle, asked: str | None, available: list[str], cache: Path | None) -> list[Provider]:
    """Providers with their options, in the order in which ONNX Runtime tries them; the CPU's is always the last.

    Raises LnmtError where the one that was asked for, or that the precision needs, is not in `available`.
    """
    fp16 = bundle.manifest.precision == "fp16"
    first = asked or ("tensorrt" if fp16 else next(name for name in DEFAULTS if PROVIDERS[name] in available))
    if PROVIDERS[first] not in available or (fp16 and first != "tensorrt"):
        raise LnmtError(
            f"ONNX Runtime cannot run {bundle.manifest.precision} on {first} here",
            where=bundle.path / "bundle.json",
            value=f"settings.provider {asked}",
            allowed=", ".join(name for name, provider in PROVIDERS.items() if provider in available),
            fix="pip install onnxruntime-gpu in place of onnxruntime; fp16 runs on the provider tensorrt alone",
        )
    order = list(PROVIDERS)[list(PROVIDERS).index(first) :]
    return [(PROVIDERS[name], _provider_options(name, bundle, cache)) for name in order if PROVIDERS[name] in available]


def _provider_options(name: str, bundle: Bundle, cache: Path | None) -> dict[str, str]:
    """Source: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html"""
    if name != "tensorrt":
        return {}
    options = {"trt_fp16_enable": str(int(bundle.manifest.precision == "fp16"))}
    if cache is not None:
        directory = cache / "onnxruntime" / bundle.digest.removeprefix("sha256:")[:16]
        directory.mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(directory)}
    return options


def _session_options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Workers spin while a call runs (that is faster) but not after it: the cores belong to the next caller.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _cannot_load(model: Path, error: Exception) -> LnmtError:
    if "alloc" in str(error).lower() or isinstance(error, MemoryError):
        return LnmtError(
            f"not enough memory for the model: {str(error)[:300]}",
            where=model,
            fix="stop other programs, or use a smaller model",
        )
    return LnmtError(
        f"ONNX Runtime cannot load the model: {error}", where=model, fix="make the bundle again: lnmt optimize"
    )
