"""`instrument_model`: spans around what a model does, where the process traces (lnmt/observability/tracing.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from lnmt.errors import LnmtError
from lnmt.observability.tracing import process_tracing

METHODS = ("forward", "infer", "predict", "generate")  # of models, engines, predictors and `lnmt.Model`

Instrumented = TypeVar("Instrumented")
Given = ParamSpec("Given")
Result = TypeVar("Result")


def instrument_model(model: Instrumented) -> Instrumented:
    """Put each call of `forward`, `infer`, `predict` or `generate` into a span, such as `TracedModel.predict`.

    `model` is a class, of which this is a decorator, or one model, engine or `lnmt.Model`; it is given back.
    A span tells how long a call took and the type of what it raised, never what was asked or answered. Without
    traces a call passes through; they are on as for the service: by OTEL_* variables, or a provider that the
    process has set. Raises LnmtError where there is none of these methods.
    """
    kind = model if isinstance(model, type) else type(model)
    found = [name for name in METHODS if callable(getattr(model, name, None))]
    if not found:
        raise LnmtError(
            "nothing to trace",
            where=f"instrument_model({kind.__qualname__})",
            allowed=f"a model with one of {', '.join(METHODS)}",
            fix="pass a model, or a class of models",
        )
    for name in found:
        setattr(model, name, _traced(getattr(model, name), f"{kind.__name__}.{name}"))
    return model


def _traced(method: Callable[Given, Result], name: str) -> Callable[Given, Result]:
    @wraps(method)
    def traced(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        tracing = process_tracing()
        if not tracing.on:
            return method(*args, **kwargs)
        with tracing.span(name):
            return method(*args, **kwargs)

    return traced
