"""The servers beside LNMT: what each needs, how it is asked, what it answers.

How each is tuned, and by which page of its documents, stands in its file below `servers/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

Answer = tuple[str, Mapping[str, float]]  # label, scores by label


@dataclass(frozen=True)
class Face:
    """How a server is asked for one text, and where its answer stands."""

    path: str
    body: Callable[[str], Any]  # JSON value of a text
    read: Callable[[Any], Answer]  # of the reply's JSON value


@dataclass(frozen=True)
class Peer:
    """One server beside LNMT."""

    name: str
    title: str
    module: str  # of benchmarks.serving_bench.servers
    face: Face
    requirements: tuple[str, ...]
    environment: str  # peers of one name share it
    batches: bool = False  # it is given the engine that is fastest for batches, else the one for single texts
    eager: bool = False  # it runs the PyTorch weights instead
    abandoned: bool = False  # by its makers: where it cannot be installed, the table says so
    variables: Mapping[str, str] = field(default_factory=dict)  # of its process


def _answer(value: Any) -> Answer:
    return str(value["label"]), value["scores"]


def _text(text: str) -> Any:
    return {"text": text}


def _pinned(*distributions: str) -> tuple[str, ...]:
    """The versions that LNMT runs with itself."""
    return tuple(f"{name}=={version(name).partition('+')[0]}" for name in distributions)


PREDICT = Face("/predict", _text, _answer)


def peers() -> dict[str, Peer]:
    """All of them, by name."""
    engines = _pinned("openvino", "onnxruntime", "tokenizers", "numpy")
    fastapi = ("fastapi==0.163.2", "uvicorn[standard]==0.54.0")
    found = [
        Peer(
            "bentoml",
            "BentoML, batchable API",
            "bentoml_service",
            Face("/classify", lambda text: {"texts": [text]}, lambda value: _answer(value[0])),
            ("bentoml==1.4.40", *engines),
            "bentoml",
            batches=True,
            variables={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "bentoml"},
        ),
        Peer(
            "litserve",
            "LitServe",
            "litserve_api",
            PREDICT,
            ("litserve==0.2.19", *engines),
            "litserve",
            batches=True,
        ),
        Peer(
            "ray",
            "Ray Serve",
            "ray_app",
            Face("/", _text, _answer),
            ("ray[serve]==2.60.0", *engines),
            "ray",
            batches=True,
            # "Enable throughput-optimized flags" of its page on performance
            variables={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        ),
        Peer(
            "mlserver",
            "MLServer",
            "mlserver_runtime",
            Face("/v2/models/sentiment/infer", _tensor, _read_tensor),
            ("mlserver==1.7.1", *engines),
            "mlserver",
            batches=True,
        ),
        Peer(
            "fastapi",
            "FastAPI, one after the other",
            "fastapi_app",
            PREDICT,
            (*fastapi, *engines),
            "fastapi",
            variables={"BENCH_STREAMS": "1"},
        ),
        Peer(
            "fastapi-threads",
            "FastAPI, in threads",
            "fastapi_app",
            Face("/predict-in-threads", _text, _answer),
            (*fastapi, *engines),
            "fastapi",
            variables={"BENCH_STREAMS": "2"},
        ),
        Peer(
            "eager",
            "FastAPI, PyTorch eager fp32",
            "eager_app",
            PREDICT,
            (*fastapi, *_pinned("torch", "transformers", "safetensors", "tokenizers", "numpy")),
            "eager",
            eager=True,
        ),
        Peer(
            "torchserve",
            "TorchServe",
            "torchserve_handler",
            Face("/predictions/sentiment", _text, _answer),
            ("torchserve==0.12.0", "torch-model-archiver==0.12.0", *_pinned("torch", "pyyaml"), *engines),
            "torchserve",
            batches=True,
            abandoned=True,
        ),
    ]
    return {peer.name: peer for peer in found}


def _read_tensor(value: Any) -> Answer:
    return _answer(json.loads(value["outputs"][0]["data"][0]))


def _tensor(text: str) -> Any:
    """Of the Open Inference Protocol."""
    tensor = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "str"}}
    return {"inputs": [{**tensor, "data": [text]}]}
