"""Schemas of what the service takes and gives, for `/openapi.json`."""

from __future__ import annotations

from typing import Any


def ref(schema: str) -> dict[str, str]:
    """A reference to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{schema}"}


def object_of(properties: dict[str, Any], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    """An object that has all `properties`, or those `required`."""
    wanted = list(properties if required is None else required)
    return {"type": "object", "required": wanted, "properties": properties}


_STRING = {"type": "string"}
_NULLABLE = {"type": ["string", "null"]}
_TENSOR = object_of(
    {
        "name": _STRING,
        "datatype": {"enum": ["BYTES", "FP32"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array"},
    }
)
_TEXTS = object_of(
    {
        "name": {"const": "text"},
        "datatype": {"const": "BYTES"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        "data": {"type": "array", "minItems": 1, "description": "strings; for a shape [n, 1] perhaps lists of one"},
    }
)
_OUTPUT = {"enum": ["label", "scores", "prediction_id"]}
_SHAPE = object_of({"name": _STRING, "datatype": _STRING, "shape": {"type": "array", "items": {"type": "integer"}}})
_TRACE = {
    "version": {"type": "string", "description": "digest of the bundle that answered"},
    "arm": {"enum": ["champion", "challenger"]},
    "prediction_id": _STRING,
}
SCHEMAS: dict[str, Any] = {
    "Answer": object_of(
        {
            "label": _STRING,
            "scores": {"type": "object", "additionalProperties": {"type": "number"}},
            **_TRACE,
        }
    ),
    "Withheld": object_of(
        {
            "label": {"type": "null"},
            "scores": {"type": "object", "maxProperties": 0},
            "withheld": {"type": "string", "description": "why a postprocessor kept the answer back"},
            **_TRACE,
        }
    ),
    "Failure": object_of({"error": _STRING, **_TRACE}),
    "RowAnswer": {"oneOf": [ref("Answer"), ref("Withheld"), ref("Failure")]},
    "Feedback": object_of({"prediction_id": _STRING, "label": _STRING}) | {"additionalProperties": False},
    "InferRequest": object_of(
        {
            "id": _NULLABLE,
            "inputs": {"type": "array", "items": _TEXTS, "minItems": 1, "maxItems": 1},
            "outputs": {"type": ["array", "null"], "items": object_of({"name": _OUTPUT}), "minItems": 1},
            "parameters": {"type": "object", "properties": {"user": _NULLABLE}},
        },
        required=("inputs",),
    )
    | {
        "additionalProperties": False,
        "example": {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["A fine film."]}]},
    },
    "InferReply": object_of(
        {
            "model_name": _STRING,
            "model_version": _STRING,
            "id": _STRING,
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": ref("Tensor")},
        }
    ),
    "Tensor": _TENSOR,
    "Alive": object_of({"status": {"const": "alive"}}),
    "Ready": object_of(
        {
            "status": {"const": "ready"},
            "model": _STRING,
            "generation": {"type": "integer"},
            "phase": _STRING,
            "champion": _STRING,
            "challenger": _NULLABLE,
            "share": {"type": "number"},
            "workers": object_of({"ready": {"type": "integer"}, "wanted": {"type": "integer"}}),
        }
    ),
    "Server": object_of({"name": _STRING, "version": _STRING, "extensions": {"type": "array", "items": _STRING}}),
    "Live": object_of({"live": {"const": True}}),
    "ServerReady": object_of({"ready": {"const": True}}),
    "ModelReady": object_of({"name": _STRING, "ready": {"const": True}}),
    "Model": object_of(
        {
            "name": _STRING,
            "versions": {"type": "array", "items": _STRING},
            "platform": _STRING,
            "inputs": {"type": "array", "items": _SHAPE},
            "outputs": {"type": "array", "items": _SHAPE},
        }
    ),
    "Models": object_of(
        {
            "models": {
                "type": "array",
                "items": object_of(
                    {
                        "name": _STRING,
                        "state": {"enum": ["cold", "loading", "ready", "failed", "unloaded"]},
                        "generation": {"type": ["integer", "null"]},
                        "champion": _NULLABLE,
                        "bytes": {"type": "integer"},
                    }
                ),
            }
        }
    ),
    "ModelState": object_of({"name": _STRING, "state": {"enum": ["ready", "unloaded"]}}),
    "Refusal": object_of({"error": _STRING, "where": _NULLABLE, "allowed": _NULLABLE, "fix": _STRING}),
}
