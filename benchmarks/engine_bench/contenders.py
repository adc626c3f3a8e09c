"""The engines beside each other: LNMT's candidates, made as its search makes them, and what people use as it comes.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError
from lnmt.files import sha256_bytes
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import REFERENCE, Candidate
from lnmt.optimization.compressions import COMPRESSIONS, GraphCompression
from lnmt.optimization.export import export_onnx
from lnmt.params import Plugin
from lnmt.progress import Progress
from lnmt.runtime import ENGINES
from lnmt.runtime.capabilities import Capabilities
from lnmt.runtime.options import Options
from lnmt.types import Batch, Precision

Arithmetic = Literal["fp32", "bf16", "int8"]
Infer = Callable[[Batch], object]

# Weights are drawn, so that nothing is kept in floats for accuracy's sake.
STATIC = Plugin.model_validate({"name": "static_int8", "keep_float": "none"})
DYNAMIC = Plugin.model_validate({"name": "dynamic_int8"})
DEFAULTS = {"onnxruntime": "ONNX Runtime as it comes", "openvino": "OpenVINO as it comes"}


@dataclass(frozen=True)
class Contender:
    """One way to answer a batch."""

    name: str
    arithmetic: Arithmetic  # of its products with weights: the peak that it is held against
    infer: Infer
    ours: bool  # a candidate of LNMT's search; else an engine with its default settings
    least_rows: int = 1  # of a batch that its settings make a difference to


@dataclass
class Workbench:
    """What contenders of one model are made from; each file is made once."""

    source: Source
    machine: Capabilities
    calibration: Callable[[], Sequence[Batch]]
    progress: Progress
    threads: int
    absent: dict[str, str] = field(default_factory=dict)  # contender → why it is not there

    def bundle(self, candidate: Candidate) -> Bundle:
        """`candidate` as a bundle. Raises LnmtError where it cannot be made."""
        if candidate == REFERENCE:
            return self.source.bundle
        files = self._files(candidate)
        given = {name: getattr(self.source.bundle.manifest, name) for name in Draft.model_fields}
        change = {
            "engine": candidate.engine,
            "precision": candidate.precision,
            "settings": dict(candidate.settings),
            "compressions": list(candidate.compressions),
        }
        target = self.source.work / "bundles" / sha256_bytes(candidate.name.encode()).removeprefix("sha256:")[:16]
        with new_bundle(target, Draft(**{**given, **change})) as directory:
            for path in (*files.iterdir(), self.source.bundle.file("tokenizer.json")):
                os.link(path, directory / path.name)  # gigabytes, of which every candidate would have a copy
        return Bundle.open(target)

    def _files(self, candidate: Candidate) -> Path:
        recipe = "+".join(plugin.name for plugin in candidate.compressions)
        target = self.source.work / "files" / f"{candidate.engine}+{recipe}"
        if target.is_dir():
            return target
        partial = target.with_name(f"{target.name}.partial")
        partial.mkdir(parents=True)
        if candidate.compressions:
            (plugin,) = candidate.compressions
            compression: Any = COMPRESSIONS.get(plugin.name)(**plugin.options)
            assert isinstance(compression, GraphCompression), "the benchmark changes no weights"
            graph = export_onnx(self.source)
            compression.compress(graph, candidate.engine, partial, self.calibration, self.progress)
        else:
            BACKENDS.get(candidate.engine)().build(candidate, self.source, partial)
        partial.rename(target)
        return target


def list_candidates(machine: Capabilities, settings: Sequence[dict[str, Any]]) -> list[Candidate]:
    """LNMT's, the reference first. `settings`: what the likely winners are tried with, beside none."""
    low: Precision = "fp32" if machine.why_not("openvino", "bf16") else "bf16"
    found = [
        REFERENCE,
        Candidate("torch", "bf16"),
        Candidate("torch_compile", low),
        Candidate("torchscript", "fp32"),
        Candidate("onnxruntime", "fp32", (DYNAMIC,)),
        Candidate("onnxruntime", "fp32", (STATIC,)),
        Candidate("openvino", "fp32"),
        Candidate("openvino", "bf16"),
        Candidate("openvino", "fp32", (STATIC,)),
        Candidate("openvino", "bf16", (STATIC,)),
    ]
    likely = [one for one in found if one.engine == "openvino" and one.precision == low]
    likely += [one for one in found if one.engine == "onnxruntime" and STATIC in one.compressions]
    return found + [one.with_settings(setting) for one in likely for setting in settings]


def label(candidate: Candidate) -> str:
    """Its name, without the digest of its compression's options."""
    parts = "+".join([f"{candidate.engine}-{candidate.precision}", *(one.name for one in candidate.compressions)])
    return " ".join([parts, *(f"{key}={value}" for key, value in sorted(candidate.settings.items()))])


def arithmetic(candidate: Candidate) -> Arithmetic:
    """Of its products with weights."""
    if candidate.compressions:
        return "int8"
    return "bf16" if candidate.precision == "bf16" else "fp32"


def least_rows(candidate: Candidate) -> int:
    """Of a batch that its settings make a difference to."""
    options = Options(**candidate.settings)
    return 1 if options.group_rows is None else next(rows for rows in count(2) if options.group_size(rows) < rows)


@contextmanager
def open_contenders(bench: Workbench, candidates: Sequence[Candidate]) -> Iterator[dict[str, Contender]]:
    """By name, the reference first; those that cannot run are told in `bench.absent`. All are closed at the end."""
    found: dict[str, Contender] = {}
    with ExitStack() as stack, bench.progress.bar("load", len(candidates) + len(DEFAULTS), "engines") as bar:
        for candidate in candidates:
            name = label(candidate)
            reason = bench.machine.why_not(candidate.engine, candidate.precision)
            try:
                if reason is None:
                    infer = _open(bench, candidate, stack)
                    least = least_rows(candidate)
                    found[name] = Contender(name, arithmetic(candidate), infer, ours=True, least_rows=least)
            except LnmtError as error:
                reason = error.what
            if reason is not None:
                bench.absent[name] = reason
            bar.advance()
        for engine, opened in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
            name, reason = DEFAULTS[engine], bench.machine.why_not(engine, "fp32")
            if reason is None:
                # left to itself OpenVINO takes bf16 wherever the CPU has it
                low = engine == "openvino" and bench.machine.why_not(engine, "bf16") is None
                infer = opened(export_onnx(bench.source))
                found[name] = Contender(name, "bf16" if low else "fp32", infer, ours=False)
            else:
                bench.absent[name] = reason
            bar.advance()
        yield found
        found.clear()


def _open(bench: Workbench, candidate: Candidate, stack: ExitStack) -> Infer:
    engine = ENGINES.get(candidate.engine)()
    engine.load(bench.bundle(candidate), threads=bench.threads, cache=bench.source.work / "cache")
    stack.callback(engine.close)
    engine.warm_up()
    return engine.infer


def _onnxruntime(path: Path) -> Infer:
    """As its documentation begins."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})


def _openvino(path: Path) -> Infer:
    """As its documentation begins."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU")
    return lambda batch: compiled({"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})
