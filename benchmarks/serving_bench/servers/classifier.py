"""The model as every peer is given it: the files of one bundle, run as the engines' own documents show it.

Runs in each peer's environment and imports nothing of LNMT. `BENCH_BUNDLE` names the bundle, `BENCH_THREADS` the cores;
tokenizer, truncation, padding and temperature are the bundle's, so that the answers are LNMT's too.

Legend: B = rows, T = tokens, C = labels.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BATCH_ROWS = 32  # of those that batch
BATCH_WAIT_S = 0.005  # that they wait for more
Answer = dict[str, Any]  # {"label": str, "scores": {label: probability}}
Run = Callable[[Any, Any], Any]  # input_ids, attention_mask [B, T] → logits [B, C]


def bundle_path() -> Path:
    """The bundle that this server answers with."""
    return Path(os.environ["BENCH_BUNDLE"])


def cores() -> int:
    """What the server may use."""
    return int(os.environ["BENCH_THREADS"])


class Encoder:
    """Texts → padded arrays → answers: everything but the model."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self.manifest = json.loads((bundle_path() / "bundle.json").read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer.from_file(str(bundle_path() / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.manifest["max_tokens"])
        self._tokenizer.enable_padding(
            pad_id=self._tokenizer.token_to_id("[PAD]"), pad_to_multiple_of=self.manifest["pad_multiple"]
        )

    def encode(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """`input_ids`, `attention_mask` [B, T], padded to the longest."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        return ids, np.array([one.attention_mask for one in encoded], dtype=np.int64)

    def answers(self, logits: Any) -> list[Answer]:
        """Of logits [B, C]."""
        scaled = logits / self.manifest["temperature"]
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        labels = self.manifest["labels"]
        return [
            {"label": labels[max(range(len(row)), key=row.__getitem__)], "scores": dict(zip(labels, row, strict=True))}
            for row in (raised / raised.sum(axis=1, keepdims=True)).tolist()
        ]


class Classifier:
    """Texts in, answers out; may be called by several threads at once.

    `threads` of the engine, by default all cores; `streams`: calls that share them.
    """

    def __init__(self, threads: int | None = None, streams: int = 1) -> None:
        self._encoder = Encoder()
        manifest = self._encoder.manifest
        engine = {"openvino": _openvino, "onnxruntime": _onnxruntime}[manifest["engine"]]
        self._run = engine(bundle_path(), threads or cores(), streams, manifest["precision"])
        self(["warm"])

    def __call__(self, texts: Sequence[str]) -> list[Answer]:
        """One answer a text, in one batch."""
        return self._encoder.answers(self._run(*self._encoder.encode(texts)))


def _openvino(bundle: Path, threads: int, streams: int, precision: str) -> Run:
    """https://docs.openvino.ai, "Performance hints" and "Inference request": a request for each thread."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would send an event at import
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(streams),
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
    }
    compiled = openvino.Core().compile_model(str(bundle / "model.xml"), "CPU", settings)
    local = threading.local()

    def run(input_ids: Any, attention_mask: Any) -> Any:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        local.request.infer({"input_ids": input_ids, "attention_mask": attention_mask}, share_inputs=True)
        return local.request.get_tensor("logits").data.copy()

    return run


def _onnxruntime(bundle: Path, threads: int, streams: int, _precision: str) -> Run:
    """https://onnxruntime.ai/docs/performance/tune-performance/threading.html"""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads // streams)
    options.inter_op_num_threads = 1
    # The page's own advice where other work shares the cores: workers stop spinning when a call ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def run(input_ids: Any, attention_mask: Any) -> Any:
        return session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]

    return run
