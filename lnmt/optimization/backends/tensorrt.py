"""The ONNX export as a TensorRT engine, built here and now for this machine's GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from lnmt.errors import LnmtError
from lnmt.files import sha256_file, write_bytes
from lnmt.optimization.backends import Source
from lnmt.optimization.backends.tensorrt_graph import spell_out_attention
from lnmt.optimization.backends.tensorrt_precision import lower_precision
from lnmt.optimization.backends.tensorrt_rules import NEWEST, Version, check_graph
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx
from lnmt.progress import Progress
from lnmt.runtime.tensorrt import this_machine, why_not_tensorrt
from lnmt.runtime.trt_build import Report, build_plan
from lnmt.runtime.trt_plan import GRAPH, Key, Profile, profiles_of, write_plan
from lnmt.types import Precision

TIMING = "tensorrt/timing.cache"  # how fast each kernel was, so that the next build measures less


class TensorRtBackend:
    """Writes `model.onnx` at the candidate's precision, `model.plan` built from it, and `plan.json` with its facts.

    The plan is for the groups that the candidate's settings cut batches into.
    """

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        graph = write_graph(source.graph or export_onnx(source), candidate.precision, directory)
        profiles = profiles_of(source.bundle.manifest, candidate.settings.get("group_rows"))
        timing = None if source.cache is None else source.cache / TIMING
        with build_bar(source.progress) as report:
            add_plan(graph, profiles, candidate.precision, directory, timing=timing, report=report)


@contextmanager
def build_bar(progress: Progress) -> Iterator[Report]:
    """A bar for one build: how many steps there are TensorRT itself finds out on the way."""
    lock = threading.Lock()
    with progress.bar("build the TensorRT engine", unit="steps") as bar:

        def report(phase: str, done: int, total: int | None) -> bool:
            if done and total is not None:
                with lock:  # TensorRT calls from threads of its own
                    bar.advance(1, phase=phase)
            return True

        yield report


class TensorRtRtxBackend:
    """Writes `model.onnx` at the candidate's precision: TensorRT-RTX builds its engine when it loads it, in seconds."""

    def build(self, candidate: Candidate, source: Source, directory: Path) -> None:
        write_graph(source.graph or export_onnx(source), candidate.precision, directory)


def write_graph(graph: Path, precision: Precision, directory: Path, version: Version = NEWEST) -> Path:
    """`model.onnx` in `directory`: `graph` as TensorRT takes it, at `precision`. May hold Q/DQ of int8.

    Raises LnmtError where it breaks TensorRT's rules, before and after.
    """
    target = directory / GRAPH
    check_graph(graph, version)
    write_bytes(target, _prepared(onnx.load(graph), precision))
    check_graph(target, version)
    return target


def _prepared(model: Any, precision: Precision) -> bytes:
    return bytes(lower_precision(spell_out_attention(model), precision).SerializeToString(deterministic=True))


def add_plan(
    graph: Path,
    profiles: Sequence[Profile],
    precision: Precision,
    directory: Path,
    *,
    timing: Path | None = None,
    report: Report | None = None,
) -> None:
    """Build `graph` for this machine and `profiles`: `model.plan`, `plan.json`.

    Raises LnmtError where this machine has no TensorRT, or the installed one is too old for the graph.
    """
    problem = why_not_tensorrt(precision)
    if problem is not None:
        raise LnmtError(
            f"TensorRT cannot run here: {problem}",
            where="params.yaml: optimize.engines",
            fix="run lnmt optimize on a machine that has it, or drop tensorrt",
        )
    machine = this_machine()
    major, minor = machine.tensorrt.split(".")[:2]
    check_graph(graph, (int(major), int(minor)))
    key = Key(sha256_file(graph), machine, tuple(profiles))
    write_plan(directory, key, build_plan(graph, key.profiles, timing=timing, report=report))
