"""A state dict as JSON values and named tensors, and back: nothing is lost on the way, and nothing is pickled.

JSON has no tuples, no integer keys, no NaN and no tensors. Each of them becomes an object with one key
that begins with `$`: `{"$tensor": name}`, `{"$tuple": [...]}`, `{"$float": "nan"}`, `{"$items": [[key, value], ...]}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lnmt.errors import LnmtError


def pack(state: Any, what: str) -> tuple[Any, dict[str, Tensor]]:
    """`state` as a JSON value, and its tensors by their place in it (`state/0/exp_avg`).

    Tensors that are views of the same memory (tied weights) are held once.
    Raises LnmtError, naming `what` and the place, where a value is neither a tensor nor JSON.
    """
    packer = _Packer(what)
    return packer.pack(state, ()), packer.tensors


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What was packed."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": name}:
            return tensors[name]
        case {"$tuple": items}:
            return tuple(unpack(item, tensors) for item in items)
        case {"$float": text}:
            return float(text)
        case {"$items": items}:
            return {unpack(key, tensors): unpack(item, tensors) for key, item in items}
    return {key: unpack(item, tensors) for key, item in value.items()}


class _Packer:
    def __init__(self, what: str) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._what = what
        self._names: dict[tuple[object, ...], str] = {}  # of tensors, by the memory they show

    def pack(self, value: Any, place: tuple[object, ...]) -> Any:
        if isinstance(value, Tensor):
            return {"$tensor": self._name(value, place)}
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, list):
            return [self.pack(item, (*place, index)) for index, item in enumerate(value)]
        if type(value) is tuple:  # a named one would come back as another type
            return {"$tuple": [self.pack(item, (*place, index)) for index, item in enumerate(value)]}
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: self.pack(item, (*place, key)) for key, item in value.items()}
            return {"$items": [[self.pack(key, place), self.pack(item, (*place, key))] for key, item in value.items()]}
        raise self._error(f"a {type(value).__name__}", value, place)

    def _name(self, tensor: Tensor, place: tuple[object, ...]) -> str:
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantised" if tensor.is_quantized else "meta" if tensor.is_meta else str(tensor.layout)
            raise self._error(f"a tensor of this kind ({kind})", tensor.shape, place)
        shown = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj())
        if tensor.numel() and shown in self._names:
            return self._names[shown]
        name = plain = "/".join(map(str, place)) or "value"
        again = 1
        while name in self.tensors:  # keys 0 and "0"
            again += 1
            name = f"{plain}#{again}"
        self.tensors[name] = tensor
        self._names[shown] = name
        return name

    def _error(self, kind: str, value: object, place: tuple[object, ...]) -> LnmtError:
        return LnmtError(
            f"a checkpoint cannot hold {kind}",
            where=f"state of {self._what}: {'/'.join(map(str, place)) or 'all of it'}",
            value=repr(value)[:80],
            allowed="dense tensors, JSON values, and dicts, lists and tuples of these",
            fix="let its state_dict() return such values",
        )
