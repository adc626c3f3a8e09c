"""TensorRT's real Python bindings without its libraries: what our code calls can be held against what there is.

The wheel tensorrt-cu13-bindings is one pybind11 module that wants three libraries, and of these a handful of entry
points. Empty ones with the right names let it load: its classes, enumerations and signatures are real, loggers and
progress monitors work, only a builder or runtime cannot be made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
ENTRIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getPluginRegistry", "initLibNvInferPlugins", "getNvOnnxParserVersion",
)  # fmt: skip

# What a script starts with: `tensorrt` is the bindings, on the empty libraries of the directory that is argument 1.
PRELUDE = """
import ctypes, json, sys
from pathlib import Path
for library in sorted(Path(sys.argv[1]).glob("*.so.*")):
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
"""
DUMP = """
found = {}
for name in dir(tensorrt_bindings):
    kind = getattr(tensorrt_bindings, name)
    if isinstance(kind, type):
        members = list(getattr(kind, "__members__", {}))
        found[name] = {
            "members": members,
            "inner": [inner for inner in dir(kind) if isinstance(getattr(kind, inner), type) and inner[0] != "_"],
            "attributes": {
                attribute: None if isinstance(getattr(kind, attribute), property)
                else (getattr(kind, attribute).__doc__ or "")
                for attribute in dir(kind)
                if attribute == "__init__" or attribute[0] != "_"
            },
        }
print(json.dumps(found))
"""


def need_bindings() -> None:
    """Skips the test where the bindings, or a compiler for the empty libraries, are not there."""
    if find_spec("tensorrt_bindings") is None:
        pytest.skip("TensorRT's bindings are not installed: pip install tensorrt-cu13-bindings")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) makes the empty libraries that the bindings load")


def run_bound(script: str, directory: Path, *arguments: str) -> str:
    """What `script` prints, after PRELUDE, in a process of its own."""
    libraries = directory / "libraries"
    if not libraries.exists():
        _make_libraries(libraries)
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(libraries), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _make_libraries(directory: Path) -> None:
    spec = find_spec("tensorrt_bindings")
    assert spec is not None
    assert spec.origin is not None
    version = re.search(r'^__version__ = "(\d+)\.', Path(spec.origin).read_text(), re.MULTILINE)
    assert version is not None
    source = directory.with_suffix(".c")
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRIES))
    directory.mkdir()
    for library in LIBRARIES:
        name = f"{library}.so.{version[1]}"
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(directory / name), str(source)]
        subprocess.run(command, check=True)


@dataclass(frozen=True)
class Signature:
    """One overload of a method, without `self`."""

    names: tuple[str, ...]
    required: int  # of `names`, the first ones
    gives: str  # the class's name, of TensorRT's own

    def takes(self, positional: int, keywords: set[str]) -> bool:
        """Whether a call with these arguments fits."""
        rest = self.names[positional:]
        missing = set(self.names[positional : self.required]) - keywords
        return positional <= len(self.names) and keywords <= set(rest) and not missing


class Bindings:
    """The classes by name."""

    def __init__(self, directory: Path) -> None:
        self.classes: dict[str, dict[str, Any]] = json.loads(run_bound(DUMP, directory))

    def signatures(self, owner: str, method: str) -> list[Signature]:
        """Every overload; none where the class has no such method."""
        text = self.classes[owner]["attributes"].get(method)
        return [] if text is None else _signatures(method, text)

    def has(self, owner: str, name: str) -> bool:
        """Whether the class has this attribute, of any kind."""
        return name in self.classes[owner]["attributes"]


@cache
def _signatures(method: str, text: str) -> list[Signature]:
    found = []
    for line in re.findall(rf"^(?:\d+\. )?{re.escape(method)}\((self: .*)$", text, re.MULTILINE):
        inside, _, gives = line.rpartition(") -> ")
        parts = _split(inside)[1:]
        names = tuple(part.split(":")[0].strip() for part in parts)
        required = sum(" = " not in part for part in parts)
        found.append(Signature(names, required, _plain(gives)))
    return found


def _split(inside: str) -> list[str]:
    """`a: X[b, c], d: Y` → its two parts."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(inside):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(inside[start:place])
            start = place + 1
    return [*parts, inside[start:]]


def _plain(kind: str) -> str:
    # pybind11 knows no Python name yet where a method was declared before its class
    return {"nvonnxparser::IParserError": "ParserError"}.get(kind.strip(), kind.strip().rpartition(".")[2])
