"""What goes into a model and comes out, and the check that a plugin kept to it.

Legend: B = rows, T = tokens, C = labels, V = vocabulary, H = pooled width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from lnmt.errors import LnmtError
from lnmt.types import Task

Inputs = Mapping[
    str, Tensor
]  # {"input_ids": [B, T] int64, "attention_mask": [B, T] int64, 1 for a token, 0 for padding}


class Outputs(NamedTuple):
    """What every model gives."""

    logits: Tensor  # [B, C]; regression [B, 1], in the target's units; by token [B, T, C]; generation [B, T, V]
    pooled: Tensor  # [B, H], one state a row


def call_model(model: nn.Module, inputs: Inputs, task: Task) -> Outputs:
    """`model(inputs)`, checked. Raises LnmtError where what came is not what the task needs."""
    return check_outputs(model, model(inputs), inputs, task)


def check_outputs(model: nn.Module, found: object, inputs: Inputs, task: Task) -> Outputs:
    """`found`, what a model's method returned for `inputs`, as Outputs. Raises LnmtError as `call_model` does."""
    if not (isinstance(found, tuple) and len(found) == 2 and all(map(_is_floats, found))):
        raise LnmtError(
            "a model must return two tensors of floats: logits and pooled",
            where=_class(model),
            value=_told(found),
            allowed=f"(logits {_shape_told(task)}, pooled [B, H])",
            fix="end its forward with `return logits, pooled`; pooled is one state a row, such as the mean of the "
            "last hidden states",
        )
    outputs = Outputs(*found)
    rows, tokens = inputs["input_ids"].shape
    wanted = _logits_shape(model, task, rows, tokens)
    shape = tuple(outputs.logits.shape)
    if len(shape) != len(wanted) or any(want not in (None, got) for got, want in zip(shape, wanted, strict=True)):
        raise LnmtError(
            f"a model gave logits of a wrong shape for {task}",
            where=_class(model),
            value=list(shape),
            allowed=f"{['any' if size is None else size for size in wanted]} = {_shape_told(task)}",
            fix="mend the end of its forward: config['labels'] is C; for regression there is one number a row",
        )
    if outputs.pooled.dim() != 2 or outputs.pooled.shape[0] != rows:
        raise LnmtError(
            "a model gave pooled states of a wrong shape",
            where=_class(model),
            value=list(outputs.pooled.shape),
            allowed=f"[{rows}, 'any'] = [B, H]",
            fix="pool the states of each row to one, such as their mean over the tokens that are no padding",
        )
    return outputs


def check_loss(model: nn.Module, found: object) -> Tensor:
    """`found`, what `training_step` returned, where it is a loss: a scalar that can be differentiated."""
    if not _is_floats(found) or found.dim() != 0 or not found.requires_grad:
        raise LnmtError(
            "training_step must return the mean loss: a scalar tensor that depends on the weights",
            where=f"{_class(model)}.training_step",
            value=_told(found) + (" without a gradient" if _is_floats(found) and not found.requires_grad else ""),
            allowed="a tensor of floats of shape []",
            fix="return self.loss(logits, batch.labels), or the mean of your own; do not detach it",
        )
    return found


def _is_floats(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _logits_shape(model: nn.Module, task: Task, rows: int, tokens: int) -> tuple[int | None, ...]:
    """None: any size."""
    labels = int(_inner(model).config["labels"])
    shapes: dict[Task, tuple[int | None, ...]] = {
        "text-classification": (rows, labels),
        "multi-label-classification": (rows, labels),
        "text-regression": (rows, 1),
        "token-classification": (rows, tokens, labels),
        "text-generation": (rows, tokens, None),
    }
    return shapes[task]


def _shape_told(task: Task) -> str:
    return {"text-regression": "[B, 1]", "token-classification": "[B, T, C]", "text-generation": "[B, T, V]"}.get(
        task, "[B, C]"
    )


def _told(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {value.dtype} {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(map(_told, value))})"
    return type(value).__name__


def _inner(model: nn.Module) -> Any:
    return getattr(model, "_orig_mod", model)  # torch.compile wraps it


def _class(model: nn.Module) -> str:
    kind = type(_inner(model))
    return f"{kind.__module__}.{kind.__qualname__}"
