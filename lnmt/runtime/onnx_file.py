"""Which other files an ONNX model reads, found without the `onnx` package and without reading its weights.

A tensor may say that its numbers stand in another file, by a path. One that leads out of the model's directory would
have a bundle read what it does not hold.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (TensorProto.external_data), and
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lnmt.errors import LnmtError

# Message → field → the message in it: every way from a model to its tensors. Other fields are skipped unread.
NESTED = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
KEY, VALUE, LOCATION = 1, 2, b"location"  # of an Entry
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def check_external_data(model: Path) -> None:
    """Raises LnmtError where the ONNX model is none, or reads a file that is not below its own directory."""
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = sorted(set(_locations(data, 0, len(data), "Model")))
    except (ValueError, IndexError, RecursionError) as error:  # empty, ends within a field, or nested without end
        raise _no_model(model) from error
    for name in found:
        path = PurePosixPath(name)
        inside = (model.parent / name).resolve().is_relative_to(model.parent.resolve())
        if path.is_absolute() or ".." in path.parts or "\\" in name or not inside:
            raise LnmtError(
                "the ONNX model reads a file outside of its directory",
                where=model,
                value=name,
                allowed="weights inside the model, or in a file beside it",
                fix="do not use this bundle before you know who made it; make it again: lnmt optimize",
            )


def _locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    """The paths of external data below the message that stands at start…end."""
    entry: dict[int, bytes] = {}
    for field, begin, stop in _fields(data, start, end):
        if message == "Entry":
            entry[field] = data[begin:stop]
        elif field in NESTED[message]:
            yield from _locations(data, begin, stop, NESTED[message][field])
    if entry.get(KEY) == LOCATION:
        yield entry.get(VALUE, b"").decode("utf-8", errors="replace")


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin, end) of each field that has a length; the rest are passed over."""
    while start < end:
        tag, start = _varint(data, start)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, start = _varint(data, start)
        elif kind == FIXED64:
            start += 8
        elif kind == FIXED32:
            start += 4
        elif kind == LENGTH:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError("a field is longer than its message")
            yield number, start, start + length
            start += length
        else:
            raise ValueError(f"no wire type {kind}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("a number has no end")


def _no_model(model: Path) -> LnmtError:
    return LnmtError(
        "ONNX Runtime cannot load the model: it is no ONNX file",
        where=model,
        fix="make the bundle again: lnmt optimize",
    )
