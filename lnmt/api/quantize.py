"""`lnmt.quantize`: a model with 8-bit weights, and how far its answers are from the original's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.api.model import Model
from lnmt.errors import LnmtError, UnknownName
from lnmt.types import AnyPrediction, Batch, LabelsPrediction, NumberPrediction, Prediction, TagsPrediction

if TYPE_CHECKING:
    from lnmt.bundles import Bundle

METHODS = {"dynamic": "dynamic_int8", "static": "static_int8", "weights": "weight_int8"}  # each with its compression
CALIBRATION_BATCH = 16


@dataclass(frozen=True)
class Agreement:
    """A quantised model's answers beside the original's, on the same texts."""

    texts: int
    same: float  # share of the labels (label sets, words' tags) that are the same; 1 where nothing is decided
    mean_difference: float  # of scores; of values (text-regression), of losses in nats (text-generation); 0 for tags
    max_difference: float


def quantize(
    model: Model,
    method: str = "dynamic",
    dtype: str = "int8",
    *,
    calibration: Sequence[str] | None = None,
    engine: str = "onnxruntime",
) -> Model:
    """`model` with int8 weights, run by `engine`, as a new model that can be saved, served and asked.

    `dynamic` (of onnxruntime): products in 8 bits, activations scaled as they come. `static`: by what they were on
    the `calibration` texts, which it needs; products that lose too much stay in floats. `weights`: weights and
    embeddings in 8 bits, products in floats: the smallest file, and the nearest answers. Every way scales are one for
    each output channel. Given texts, the answers to them are compared: the new model's
    `bundle.manifest.evidence["agreement"]`. int8 moves answers, so measure before you ship; the pipeline's `optimize`
    ships nothing that it has not held against the reference.

    Raises LnmtError where the model is not PyTorch's, or cannot be exported, or the engine does not run the method;
    UnknownName for another method.

    >>> small = quantize(Model.load("models/mood"), method="dynamic", dtype="int8", calibration=["a good film", "bad"])
    >>> small.bundle.manifest.engine, small.bundle.manifest.evidence["agreement"]["texts"]
    ('onnxruntime', 2)
    """
    _check(model, method, dtype, calibration)
    made = Model(model.trained.path)
    made.name = f"{model.name}, {method} {dtype}"
    home = made.new_home()
    made.take(_build(model, method, engine, calibration or (), home))
    if calibration:
        found = compare(model.predict(calibration), made.predict(calibration))
        made.take(_with_evidence(made.trained, {"agreement": asdict(found)}, home / "measured"))
    return made


def compare(original: Sequence[AnyPrediction], other: Sequence[AnyPrediction]) -> Agreement:
    """How alike answers to the same texts are."""
    pairs = list(zip(original, other, strict=True))
    same = [one == two for pair in pairs for one, two in zip(*map(_decided, pair), strict=True)]
    apart = [abs(one - two) for pair in pairs for one, two in zip(*map(_numbers, pair), strict=True)]
    return Agreement(
        texts=len(pairs),
        same=sum(same) / len(same) if same else 1.0,
        mean_difference=sum(apart) / len(apart) if apart else 0.0,
        max_difference=max(apart, default=0.0),
    )


def _check(model: Model, method: str, dtype: str, calibration: Sequence[str] | None) -> None:
    where = "lnmt.quantize"
    if method == "qat":
        raise LnmtError(
            "quantisation-aware training is not there",
            where=where,
            value="qat",
            allowed=", ".join(METHODS),
            fix="quantise after training, and look at the agreement: quantize(model, 'static', calibration=texts)",
        )
    if method not in METHODS:
        raise UnknownName("method of quantisation", method, METHODS, where=where)
    if dtype != "int8":
        raise LnmtError("weights are quantised to int8 alone", where=where, value=dtype, allowed="int8", fix="say int8")
    if method == "static" and not calibration:
        raise LnmtError(
            "static quantisation measures activations on texts",
            where=where,
            value="no calibration texts",
            fix="give a few hundred typical ones: quantize(model, 'static', calibration=texts)",
        )
    manifest = model.trained.manifest
    if (manifest.engine, manifest.precision) != ("torch", "fp32"):
        raise LnmtError(
            "only a PyTorch model in fp32 is quantised",
            where=model.trained.path,
            value=f"{manifest.engine}, {manifest.precision}",
            allowed="torch, fp32",
            fix="quantise the model that this one was made from",
        )


def _build(model: Model, method: str, engine: str, calibration: Sequence[str], home: Path) -> Bundle:
    from lnmt.bundles import Bundle, Draft, new_bundle
    from lnmt.optimization.backends import Source
    from lnmt.optimization.compressions import COMPRESSIONS, GraphCompression
    from lnmt.optimization.export import export_onnx
    from lnmt.params import Plugin
    from lnmt.progress import Progress

    source, target = model.trained, home / "quantized"
    compression = COMPRESSIONS.get(METHODS[method])()
    assert isinstance(compression, GraphCompression), "METHODS names no other"
    if engine not in compression.engines:
        raise UnknownName(f"engine of {method} quantisation", engine, compression.engines, where="lnmt.quantize")
    exported = export_onnx(Source(source, home))
    made = home / "files"
    made.mkdir()
    compression.compress(exported, engine, made, lambda: list(_batches(model, calibration)), Progress(show=False))
    change = {
        "engine": engine,
        "precision": "fp32",  # of what stays in floats
        "compressions": [
            *source.manifest.compressions,
            Plugin.model_validate({"name": METHODS[method], "decided": compression.decided()}),
        ],
        "parent": source.digest,
        "evidence": {**source.manifest.evidence, "quantized": method},
    }
    with new_bundle(target, Draft(**{**_draft(source), **change})) as directory:
        for path in (*made.iterdir(), source.file("tokenizer.json")):
            shutil.copyfile(path, directory / path.name)
    return Bundle.open(target)


def _with_evidence(bundle: Bundle, evidence: dict[str, Any], target: Path) -> Bundle:
    """The same with more evidence, at `target`."""
    from lnmt.bundles import Bundle, Draft, new_bundle

    told = {**_draft(bundle), "evidence": {**bundle.manifest.evidence, **evidence}}
    with new_bundle(target, Draft(**told)) as directory:
        for name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), directory / name)
    return Bundle.open(target)


def _draft(bundle: Bundle) -> dict[str, Any]:
    from lnmt.bundles import Draft

    return {name: getattr(bundle.manifest, name) for name in Draft.model_fields}


def _batches(model: Model, texts: Sequence[str]) -> Iterator[Batch]:
    predictor = model.predictor()
    rows = sorted(predictor.encode(texts), key=len)
    for start in range(0, len(rows), CALIBRATION_BATCH):
        yield predictor.pad(rows[start : start + CALIBRATION_BATCH])


def _decided(answer: AnyPrediction) -> tuple[object, ...]:
    if isinstance(answer, Prediction):
        return (answer.label,)
    if isinstance(answer, LabelsPrediction):
        return (answer.labels,)
    return answer.tags if isinstance(answer, TagsPrediction) else ()


def _numbers(answer: AnyPrediction) -> list[float]:
    if isinstance(answer, Prediction | LabelsPrediction):
        return list(answer.scores.values())
    if isinstance(answer, NumberPrediction):
        return [answer.value]
    return [] if isinstance(answer, TagsPrediction) else [answer.loss]
