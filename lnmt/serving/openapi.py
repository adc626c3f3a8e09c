"""`/openapi.json`: the service described, by hand, so that it says what matters. A test holds it to the routes."""

from __future__ import annotations

from typing import Any

import lnmt
from lnmt.serving.limits import Limits

_REFUSALS = {
    "400": "not JSON",
    "404": "unknown model, prediction or route",
    "413": "body too large",
    "415": "not application/json",
    "422": "a field does not fit",
    "429": "the queue is full; see Retry-After",
    "500": "the engine failed",
    "503": "no model is live, or the prediction store cannot be written",
}


def document(name: str, limits: Limits) -> dict[str, Any]:
    """OpenAPI 3.1 of the service for the model `name`."""
    text = {"type": "string", "minLength": 1, "maxLength": limits.characters}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": limits.rows}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"LNMT · {name}",
            "version": lnmt.__version__,
            "description": f"Text classification. A request body holds at most {limits.body_bytes} bytes.",
        },
        "paths": {
            "/predict": {
                "post": _operation(
                    "Classify a text, or a list of them",
                    body={
                        "type": "object",
                        "required": ["text"],
                        "additionalProperties": False,
                        "properties": {
                            "text": {"oneOf": [text, texts]},
                            "user": {
                                "type": ["string", "null"],
                                "minLength": 1,
                                "maxLength": limits.user_characters,
                                "description": "requests of one user stay in one arm",
                            },
                        },
                        "example": {"text": "A fine film."},
                    },
                    reply={"oneOf": [_ref("Answer"), {"type": "array", "items": _ref("RowAnswer")}]},
                    refusals=("400", "413", "415", "422", "429", "500", "503"),
                    traced=True,
                )
            },
            "/feedback": {
                "post": _operation(
                    "Tell the true label of a prediction; telling it again changes nothing, another label corrects it",
                    body=_ref("Feedback"),
                    reply=_ref("Feedback"),
                    refusals=("400", "404", "413", "415", "422", "503"),
                )
            },
            "/v2/models/{name}/infer": {
                "parameters": [_NAME],
                "post": _operation(
                    "Open Inference Protocol: classify a BYTES tensor",
                    body=_ref("InferRequest"),
                    reply=_ref("InferReply"),
                    refusals=tuple(_REFUSALS),
                    traced=True,
                ),
            },
            "/v2/models/{name}": {"parameters": [_NAME], "get": _get("Model metadata", ("404", "503"))},
            "/v2/models/{name}/ready": {"parameters": [_NAME], "get": _get("Is the model ready?", ("404", "503"))},
            "/v2": {"get": _get("Server metadata")},
            "/v2/health/live": {"get": _get("Is the server alive?")},
            "/v2/health/ready": {"get": _get("Is the server ready?", ("503",))},
            "/livez": {"get": _get("The process answers")},
            "/healthz": {"get": _get("The process answers")},
            "/readyz": {"get": _get("A model is loaded and warm; and which", ("503",))},
            "/health": {"get": _get("A model is loaded and warm; and which", ("503",))},
            "/metrics": {"get": _get("Prometheus metrics", kind="text/plain")},
            "/openapi.json": {"get": _get("This document")},
            "/docs": {"get": _get("A page to try it", kind="text/html")},
            "/": {"get": _get("A page to try it", kind="text/html")},
        },
        "components": {"schemas": _SCHEMAS},
    }


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _get(summary: str, refusals: tuple[str, ...] = (), *, kind: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "yes", "content": {kind: {}}}, **_no(refusals)}}


def _operation(
    summary: str, *, body: dict[str, Any], reply: dict[str, Any], refusals: tuple[str, ...], traced: bool = False
) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "done", "content": {"application/json": {"schema": reply}}}
    if traced:
        done["headers"] = {
            "x-lnmt-prediction-id": {"description": "of the first text", "schema": {"type": "string"}},
            "x-lnmt-arm": {"schema": {"enum": ["champion", "challenger"]}},
        }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": done, **_no(refusals)},
    }


def _no(refusals: tuple[str, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Refusal")}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in refusals}


def _object(properties: dict[str, Any], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    wanted = list(properties if required is None else required)
    return {"type": "object", "required": wanted, "properties": properties}


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_STRING = {"type": "string"}
_NULLABLE = {"type": ["string", "null"]}
_TENSOR = _object(
    {
        "name": _STRING,
        "datatype": {"enum": ["BYTES", "FP32"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array"},
    }
)
_TRACE = {
    "version": {"type": "string", "description": "digest of the bundle that answered"},
    "arm": {"enum": ["champion", "challenger"]},
    "prediction_id": _STRING,
}
_SCHEMAS = {
    "Answer": _object(
        {
            "label": _STRING,
            "scores": {"type": "object", "additionalProperties": {"type": "number"}},
            **_TRACE,
        }
    ),
    "Failure": _object({"error": _STRING, **_TRACE}),
    "RowAnswer": {"oneOf": [_ref("Answer"), _ref("Failure")]},
    "Feedback": _object({"prediction_id": _STRING, "label": _STRING}),
    "InferRequest": _object(
        {
            "id": _STRING,
            "inputs": {"type": "array", "items": _ref("Tensor"), "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": _object({"name": _STRING})},
            "parameters": {"type": "object", "properties": {"user": _NULLABLE}},
        },
        required=("inputs",),
    ),
    "InferReply": _object(
        {
            "model_name": _STRING,
            "model_version": _STRING,
            "id": _STRING,
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": _ref("Tensor")},
        }
    ),
    "Tensor": _TENSOR,
    "Refusal": _object({"error": _STRING, "where": _NULLABLE, "allowed": _NULLABLE, "fix": _STRING}),
}
