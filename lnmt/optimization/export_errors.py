"""Why a model could not be exported, in words about the model: the operator, the line, and what to write instead."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path

OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
CALL = re.compile(r'File "([^"]+)", line (\d+), in (\w+)\n\s*(\S.*)')
DROP = "or drop the engine from params.yaml: optimize.engines"


@dataclass(frozen=True)
class Refusal:
    """One failed export."""

    what: str
    fix: str


def explain_export(error: BaseException) -> Refusal:
    """What torch's exporter raised; its own text is mostly about itself."""
    root = _root(error)
    text = "\n".join((str(error), str(root)))
    line = _line(text, root)
    operator = OPERATOR.search(text)
    if operator:
        return Refusal(
            f"ONNX export failed: operator {operator[1]} has no form in ONNX",
            f"write what {operator[1]} does with other operators in the model's forward, {DROP}",
        )
    if "data-dependent" in text:
        return Refusal(
            f"ONNX export failed: a number inside a tensor decides a branch or a size{line}",
            f"use torch.where or a mask there, so that every batch takes the same way, {DROP}",
        )
    first = next(iter(str(root).strip().splitlines()), "")
    return Refusal(
        f"ONNX export failed: {type(root).__name__}: {first[:300]}{line}",
        f"make the model's forward traceable by torch.export, {DROP}",
    )


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(text: str, root: BaseException) -> str:
    """`, at model.py:8 in forward: if mask.sum() > 3`; empty where no line of the model is known."""
    found = CALL.findall(text)
    if found:
        path, number, function, code = found[-1]
    else:
        frames = [frame for frame in traceback.extract_tb(root.__traceback__) if frame.name == "forward"]
        own = [frame for frame in frames if "torch" not in Path(frame.filename).parts]
        if not own:
            return ""
        path, number, function, code = own[-1].filename, str(own[-1].lineno), own[-1].name, own[-1].line or ""
    return f", at {Path(path).name}:{number} in {function}: {code.strip()[:120]}"
