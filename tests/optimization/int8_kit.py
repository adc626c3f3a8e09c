"""What the tests of 8-bit compressions share: exported tiny bundles, batches for them, and graphs made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lnmt.bundles import Bundle
from lnmt.files import write_bytes
from lnmt.optimization.backends import Source
from lnmt.optimization.compressions import GraphCompression
from lnmt.optimization.export import export_onnx
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import Batch
from tests.tiny_bundle import WORDS

QUIET = Progress(show=False)


def exported(bundle: Bundle, work: Path) -> Path:
    """The bundle's fp32 ONNX export."""
    work.mkdir(exist_ok=True)
    return export_onnx(Source(bundle, work))


def batches(bundle: Bundle, rows: int = 48, seed: int = 0) -> list[Batch]:
    """Texts of known words, in padded batches of 8."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(rows)]
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.max_tokens)
    encoded = [list(row) for row in tokenizer.encode(texts)]
    return [tokenizer.pad(encoded[start : start + 8], 8) for start in range(0, rows, 8)]


def compressed(
    compression: GraphCompression, graph: Path, engine: str, directory: Path, calibration: Sequence[Batch] = ()
) -> Path:
    """The directory with the files that the compression made."""
    directory.mkdir(parents=True)
    compression.compress(graph, engine, directory, lambda: calibration, QUIET)
    return directory


def run_onnx(path: Path, batch: Batch) -> NDArray[np.float32]:
    """Logits of ONNX Runtime as it comes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    found: NDArray[np.float32] = session.run(["logits"], feed)[0]
    return found


def run_openvino(path: Path, batch: Batch) -> NDArray[np.float32]:
    """Logits of OpenVINO in fp32."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    found: NDArray[np.float32] = compiled(feed)["logits"].copy()
    return found


def run_files(engine: str, directory: Path, batch: Batch) -> NDArray[np.float32]:
    """Logits of the engine that the files in `directory` are for."""
    return (
        run_openvino(directory / "model.xml", batch)
        if engine == "openvino"
        else run_onnx(directory / "model.onnx", batch)
    )


def moved(exact: NDArray[np.float32], other: NDArray[np.float32], batch: Batch) -> float:
    """‖change‖ / ‖logits‖ without padding."""
    if exact.ndim == 3:
        exact, other = exact[batch.attention_mask > 0], other[batch.attention_mask > 0]
    return float(np.linalg.norm(other - exact) / np.linalg.norm(exact))


def handmade(path: Path, layers: int = 3, width: int = 32, outlier: int | None = None, **weights: Any) -> Path:
    """A graph of `layers` products [32, 32] with biases `layer.N.bias`, tanh between them, over 50 embeddings.

    Layer `outlier` has 2 inputs in 1 that are 3,000 times larger than what they carry: two huge weights that cancel
    out but for what rounding leaves of them. `weights` replace initializers.
    """
    rng = np.random.default_rng(5)
    values: dict[str, NDArray[Any]] = {"table": rng.normal(size=(50, width)).astype(np.float32)}
    for layer in range(layers):
        values[f"layer.{layer}.weight"] = (rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32)
        values[f"layer.{layer}.bias"] = rng.normal(size=width).astype(np.float32) * np.float32(0.1)
    if outlier is not None:
        whole = values[f"layer.{outlier}.weight"]
        whole[1] = whole[0] - 3000
        whole[0] += 3000
    values |= weights
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states.0"], name="gather")]
    for layer in range(layers):
        state = f"states.{layer}"
        if layer == outlier:
            values["both"] = np.array([0, 0, *range(2, width)], np.int64)
            nodes.append(helper.make_node("Gather", [state, "both"], [f"{state}.twice"], name="twice", axis=2))
            state = f"{state}.twice"
        nodes += [
            helper.make_node("MatMul", [state, f"layer.{layer}.weight"], [f"product.{layer}"], name=f"matmul.{layer}"),
            helper.make_node("Add", [f"product.{layer}", f"layer.{layer}.bias"], [f"sum.{layer}"], name=f"add.{layer}"),
            helper.make_node("Tanh", [f"sum.{layer}"], [f"states.{layer + 1}"], name=f"tanh.{layer}"),
        ]
    values["axis"] = np.array([1], np.int64)
    last = f"states.{layers}"
    nodes += [
        helper.make_node("ReduceMean", [last, "axis"], ["pooled"], name="mean", keepdims=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["mask", "axis"], ["length"], name="sum", keepdims=1),
        helper.make_node("Mul", ["pooled", "length"], ["logits"], name="times"),
    ]
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["B", "T"]) for n in ("input_ids", "attention_mask")]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", width]) for name in ("logits", "pooled")]
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "handmade", ids, given, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    write_bytes(path, model.SerializeToString(deterministic=True))
    return path


def id_batches(rows: int = 64, vocabulary: int = 50) -> list[Batch]:
    """Random token ids below `vocabulary`, no padding, batches of 16."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, vocabulary, (rows, 6))
    return [Batch(part, np.ones_like(part)) for part in np.split(ids, rows // 16)]


def load(path: Path) -> Any:
    """The ONNX model at `path`."""
    return onnx.load(path)
