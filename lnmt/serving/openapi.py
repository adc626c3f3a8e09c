"""`/openapi.json`: the service described, by hand, so that it says what matters. A test holds it to the routes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import lnmt
from lnmt.security.roles import Action, allowed_roles
from lnmt.serving.deadline import HEADER
from lnmt.serving.limits import Limits
from lnmt.serving.schemas import SCHEMAS, ref

_REFUSALS = {
    "400": "not JSON",
    "401": "no valid API key",
    "403": "the key's role does not allow it",
    "404": "unknown model, version, prediction or route",
    "408": "the body came too slowly",
    "409": "the service's own model stays",
    "413": "body too large",
    "415": "not application/json, or a compression that is not taken",
    "422": "a field does not fit",
    "429": "too many requests, or the queue is full; see Retry-After",
    "500": "the engine or a postprocessor failed",
    "503": "no model is live, or the prediction store cannot be used",
    "504": "no answer before the deadline",
}
_BODY = ("400", "408", "413", "415", "422")
_ANSWER = (*_BODY, "500", "503", "504")


def document(name: str, limits: Limits) -> dict[str, Any]:
    """OpenAPI 3.1 of the service for the model `name`."""
    text = {"type": "string", "minLength": 1, "maxLength": limits.characters}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": limits.rows}
    user = {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": limits.user_characters,
        "description": "requests of one user stay in one arm",
    }
    predict = {
        "type": "object",
        "required": ["text"],
        "additionalProperties": False,
        "properties": {"text": {"oneOf": [text, texts]}, "user": user},
        "example": {"text": "A fine film."},
    }
    answers = {"oneOf": [ref("Answer"), ref("Withheld"), {"type": "array", "items": ref("RowAnswer")}]}
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
                    "predict",
                    answers,
                    _ANSWER,
                    body=predict,
                    traced=True,
                    failure=ref("Failure"),
                )
            },
            "/feedback": {
                "post": _operation(
                    "Tell the true label of a prediction; telling it again changes nothing, another label corrects it",
                    "feedback",
                    ref("Feedback"),
                    (*_BODY, "404", "503"),
                    body=ref("Feedback"),
                )
            },
            **_asked("model", "/v2/models/{name}", [_NAME]),
            **_asked("version", "/v2/models/{name}/versions/{version}", [_NAME, _VERSION]),
            "/models": {"get": _operation("The models that are loaded or could be", "read", ref("Models"))},
            "/models/{name}/load": {
                "parameters": [_NAME],
                "post": _operation("Load a model", "manage", ref("ModelState"), ("404", "503")),
            },
            "/models/{name}/unload": {
                "parameters": [_NAME],
                "post": _operation("Give a model's memory back", "manage", ref("ModelState"), ("404", "409")),
            },
            "/v2": {"get": _operation("Server metadata", "public", ref("Server"))},
            "/v2/health/live": {"get": _operation("Is the server alive?", "public", ref("Live"))},
            "/v2/health/ready": {"get": _operation("Is the server ready?", "public", ref("ServerReady"), ("503",))},
            "/livez": {"get": _operation("The process answers", "public", ref("Alive"))},
            "/healthz": {"get": _operation("The process answers", "public", ref("Alive"))},
            "/readyz": {"get": _operation("A model is loaded and warm; and which", "public", ref("Ready"), ("503",))},
            "/health": {"get": _operation("A model is loaded and warm; and which", "public", ref("Ready"), ("503",))},
            "/metrics": {"get": _operation("Prometheus metrics", "observe", {"type": "string"}, kind="text/plain")},
            "/openapi.json": {"get": _operation("This document", "public", {"type": "object"})},
            "/docs": {"get": _operation("A page to try it", "public", {"type": "string"}, kind="text/html")},
            "/": {"get": _operation("A page to try it", "public", {"type": "string"}, kind="text/html")},
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _asked(what: str, path: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The paths at which the Open Inference Protocol asks a model, or one version of it."""
    return {
        f"{path}/infer": {
            "parameters": parameters,
            "post": _operation(
                f"Open Inference Protocol: have the {what} classify a BYTES tensor",
                "predict",
                ref("InferReply"),
                (*_ANSWER, "404"),
                body=ref("InferRequest"),
                traced=True,
            ),
        },
        path: {
            "parameters": parameters,
            "get": _operation(f"Metadata of the {what}", "read", ref("Model"), ("404", "422", "503", "504")),
        },
        f"{path}/ready": {
            "parameters": parameters,
            "get": _operation(f"Is the {what} ready?", "public", ref("ModelReady"), ("404", "503")),
        },
    }


def _operation(
    summary: str,
    action: Action,
    reply: dict[str, Any],
    refusals: Collection[str] = (),
    *,
    body: dict[str, Any] | None = None,
    kind: str = "application/json",
    traced: bool = False,
    failure: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What may be sent, what comes, and who may: `action` as in the table of routes.

    `failure`: what comes with a 500 where the request was answered, and that answer is an error.
    """
    done: dict[str, Any] = {"description": "done", "content": {kind: {"schema": reply}}}
    found: dict[str, Any] = {"summary": summary, "x-lnmt-action": action}
    if traced:
        done["headers"] = {
            "x-lnmt-prediction-id": {"description": "of the first text", "schema": {"type": "string"}},
            "x-lnmt-arm": {"schema": {"enum": ["champion", "challenger"]}},
        }
        found["parameters"] = [_TIMEOUT]
    if action != "public":
        found["description"] = "Roles, where keys are asked for: " + ", ".join(allowed_roles(action))
        found["security"] = [{"bearer": []}, {"key": []}, {}]  # nothing, for callers of a service without keys
        refusals = {*refusals, "401", "403", "429"}
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    refused: dict[str, Any] = dict.fromkeys(sorted(refusals), ref("Refusal"))
    if failure is not None:
        refused["500"] = {"anyOf": [failure, ref("Refusal")]}
    responses = {
        status: {"description": _REFUSALS[status], "content": {"application/json": {"schema": schema}}}
        for status, schema in refused.items()
    }
    found["responses"] = {"200": done, **responses}
    return found


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "digest of a bundle that is live: `versions` of the model's metadata",
    "schema": {"type": "string"},
}
_TIMEOUT = {
    "name": HEADER,
    "in": "header",
    "description": "milliseconds after which the answer is not wanted any more",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
}
