"""Open Inference Protocol v2 over REST: text in as a BYTES tensor, labels (BYTES) and scores (FP32) out.

https://github.com/open-inference/open-inference-protocol, specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lnmt.bundles import Manifest
from lnmt.serving.answers import Answer
from lnmt.serving.forms import Form
from lnmt.serving.limits import Limits
from lnmt.serving.problems import Problem
from lnmt.serving.requests import check_rows, parse_texts, parse_user

OUTPUTS = ("label", "scores", "prediction_id")


class InputTensor(msgspec.Struct):
    """Strings, row by row; where the shape is [B, 1] each may be a list of one."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | tuple[str]]


class OutputName(msgspec.Struct):
    """An output that is wanted."""

    name: str


class Parameters(msgspec.Struct):
    """Others than ours are passed over."""

    user: str | None = None


class InferBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request of the protocol: one input tensor."""

    inputs: tuple[InputTensor]
    id: str | None = None
    outputs: list[OutputName] | None = None
    parameters: Parameters = msgspec.field(default_factory=Parameters)


INFER = Form(InferBody, '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["…"]}]}')


@dataclass(frozen=True)
class InferRequest:
    """Texts [B] to classify, and the outputs wanted."""

    id: str | None
    texts: list[str]
    user: str | None
    outputs: tuple[str, ...]


def parse_infer(body: InferBody, limits: Limits) -> InferRequest:
    """One BYTES input `text` of shape [B] or [B, 1]; `parameters.user` is the stickiness key."""
    return InferRequest(
        id=body.id,
        texts=_texts(body.inputs[0], limits),
        user=parse_user(body.parameters.user, limits, "parameters.user"),
        outputs=_outputs(body.outputs),
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


def _texts(tensor: InputTensor, limits: Limits) -> list[str]:
    for field, given, allowed in (("name", tensor.name, "text"), ("datatype", tensor.datatype, "BYTES")):
        if given != allowed:
            fix = f"send {allowed!r}"
            raise Problem(422, f"wrong {field}", where=f"inputs[0].{field}", allowed=allowed, fix=fix)
    rows = len(tensor.data)
    check_rows(rows, limits, "inputs[0].data")
    if tensor.shape not in ([rows], [rows, 1]):
        allowed = f"[{rows}] or [{rows}, 1]"
        fix = "make shape and data agree"
        raise Problem(422, "the shape is not the data's", where="inputs[0].shape", allowed=allowed, fix=fix)
    column = tensor.shape == [rows, 1]
    texts: list[str] = []
    for index, row in enumerate(tensor.data):
        if not isinstance(row, str) and not column:
            where, fix = f"inputs[0].data[{index}]", f"for lists of one the shape is [{rows}, 1]"
            raise Problem(422, "not a string", where=where, allowed="a string", fix=fix)
        texts.append(row if isinstance(row, str) else row[0])
    return parse_texts(texts, limits, "inputs[0].data", listed=True)


def _outputs(wanted: list[OutputName] | None) -> tuple[str, ...]:
    if wanted is None:
        return OUTPUTS
    names = [output.name for output in wanted]
    known = [name for name in OUTPUTS if names.count(name) == 1]
    if not names or len(known) != len(names):
        fix = "name outputs once each, or leave the field out for all"
        raise Problem(422, "unknown outputs", where="outputs", allowed=", ".join(OUTPUTS), fix=fix)
    return tuple(sorted(known, key=names.index))
