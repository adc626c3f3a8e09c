"""Open Inference Protocol v2 over REST: text in as a BYTES tensor, labels (BYTES) and scores (FP32) out.

https://github.com/open-inference/open-inference-protocol, specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnmt.bundles import Manifest
from lnmt.serving.answers import Answer
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem
from lnmt.serving.requests import parse_texts, parse_user

FIELDS = ("id", "inputs", "outputs", "parameters")
OUTPUTS = ("label", "scores", "prediction_id")


@dataclass(frozen=True)
class InferRequest:
    """Texts [B] to classify, and the outputs wanted."""

    id: str | None
    texts: list[str]
    user: str | None
    outputs: tuple[str, ...]


def parse_infer(value: Mapping[str, Any], limits: Limits) -> InferRequest:
    """One BYTES input `text` of shape [B] or [B, 1]; `parameters.user` is the stickiness key."""
    given_id = value.get("id")
    if given_id is not None and not isinstance(given_id, str):
        raise Problem(422, "not a string", where="id", allowed="a string", fix="send a string, or leave it out")
    parameters = _mapping(value.get("parameters", {}), "parameters")
    return InferRequest(
        id=given_id,
        texts=_texts(value.get("inputs"), limits),
        user=parse_user(parameters.get("user"), limits, "parameters.user"),
        outputs=_outputs(value.get("outputs")),
    )


def infer_body(name: str, request: InferRequest, answers: Sequence[Answer]) -> dict[str, Any]:
    """The reply. Raises Problem 500 where a text failed: a request of this protocol answers whole or not at all.

    Tensors have a place for every row and every label of the model: where an answer was withheld its label is empty,
    and a score that is not told is 0.
    """
    failed = [index for index, answer in enumerate(answers) if answer.error is not None]
    if failed:
        where = ", ".join(f"inputs[0].data[{index}]" for index in failed[:10])
        raise Problem(500, "a text failed", where=where, fix="leave it out, or use /predict, row by row")
    rows, labels = len(answers), list(answers[0].labels)
    tensors: dict[str, dict[str, Any]] = {
        "label": {"datatype": "BYTES", "shape": [rows], "data": [answer.label or "" for answer in answers]},
        "scores": {
            "datatype": "FP32",
            "shape": [rows, len(labels)],
            "parameters": {"labels": labels},
            "data": [answer.scores.get(label, 0.0) for answer in answers for label in labels],
        },
        "prediction_id": {"datatype": "BYTES", "shape": [rows], "data": [answer.prediction_id for answer in answers]},
    }
    return {
        "model_name": name,
        "model_version": answers[0].version,
        "id": request.id or answers[0].prediction_id,
        "parameters": {"arm": answers[0].arm},
        "outputs": [{"name": output, **tensors[output]} for output in request.outputs],
    }


def model_metadata(name: str, versions: Sequence[str], manifest: Manifest) -> dict[str, Any]:
    """What a model takes and gives; `versions` may each be asked for."""
    return {
        "name": name,
        "versions": list(versions),
        "platform": f"lnmt_{manifest.engine}",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {
                "name": "scores",
                "datatype": "FP32",
                "shape": [-1, len(manifest.labels)],
                "parameters": {"labels": manifest.labels},
            },
            {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def _texts(inputs: Any, limits: Limits) -> list[str]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        fix = 'send "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["…"]}]'
        raise Problem(422, "not one input tensor", where="inputs", allowed="a list of one tensor", fix=fix)
    tensor = inputs[0]
    expected = {"name": ("text",), "datatype": ("BYTES",)}
    for field, allowed in expected.items():
        if tensor.get(field) not in allowed:
            fix = f"send {allowed[0]!r}"
            raise Problem(422, f"wrong {field}", where=f"inputs[0].{field}", allowed=", ".join(allowed), fix=fix)
    data = tensor.get("data")
    if not isinstance(data, list):
        fix = "send the texts as JSON strings in a list"
        raise Problem(422, "not a list", where="inputs[0].data", allowed="a list of strings", fix=fix)
    if all(isinstance(row, list) and len(row) == 1 for row in data) and tensor.get("shape") == [len(data), 1]:
        data = [row[0] for row in data]
    if tensor.get("shape") not in ([len(data)], [len(data), 1]):
        allowed_shape = f"[{len(data)}] or [{len(data)}, 1]"
        fix = "make shape and data agree"
        raise Problem(422, "the shape is not the data's", where="inputs[0].shape", allowed=allowed_shape, fix=fix)
    return parse_texts(data, limits, "inputs[0].data", listed=True)


def _outputs(wanted: Any) -> tuple[str, ...]:
    if wanted is None:
        return OUTPUTS
    entries = wanted if isinstance(wanted, list) else []
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    known = [name for name in OUTPUTS if names.count(name) == 1]
    if not names or len(known) != len(names):
        fix = "name outputs once each, or leave the field out for all"
        raise Problem(422, "unknown outputs", where="outputs", allowed=", ".join(OUTPUTS), fix=fix)
    return tuple(sorted(known, key=names.index))


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Problem(422, "not an object", where=where, allowed="a JSON object", fix="send an object, or leave it out")
    return value
