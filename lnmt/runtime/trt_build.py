"""An ONNX graph as a TensorRT plan. Takes minutes and the whole GPU: in the pipeline, never while a server starts.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/python-api-docs.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.errors import LnmtError
from lnmt.files import write_bytes
from lnmt.runtime.trt_plan import Profile

if TYPE_CHECKING:
    import tensorrt

INPUTS = ("input_ids", "attention_mask")
WORKSPACE_BYTES = 2 << 30  # memory that a kernel may take beside weights and activations

# (phase, steps done, steps of this phase or None where it is over) → go on?
Report = Callable[[str, int, int | None], bool]


def build_plan(
    graph: Path,
    profiles: Sequence[Profile],
    *,
    timing: Path | None = None,
    workspace_bytes: int = WORKSPACE_BYTES,
    report: Report | None = None,
) -> bytes:
    """The plan of an ONNX file, strongly typed: every type is the graph's own.

    `timing` is a file that is read, used and written back; `report` is told of each step, from threads of
    TensorRT's, and ends the build by answering False.
    Raises LnmtError with all that TensorRT said where it cannot start, read the graph or build it, or was told to end.
    """
    import tensorrt

    logger = make_logger()
    try:
        builder = tensorrt.Builder(logger)
    except TypeError as error:  # pybind's words for a factory that gave nothing
        raise LnmtError(
            "TensorRT cannot start",
            where=graph,
            value=_last(logger.lines) or str(error),
            fix="look at nvidia-smi: a GPU that is free, and a driver new enough for this TensorRT",
        ) from error
    # ignored from TensorRT 11 on, where nothing else is left
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(tensorrt.OnnxParser(network, logger), graph)
    config = builder.create_builder_config()
    # fp32 is fp32: who wants fewer bits asks for fp16 or bf16, and the certificate then says so
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, workspace_bytes)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        _add_profile(config, profile, shapes)
    if timing is not None:
        _load_timing(config, timing)
    monitor = make_monitor(report)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise _not_built(graph, logger, monitor)
    if timing is not None:
        _save_timing(config, timing)
    return bytes(plan)


def make_logger() -> Any:
    """TensorRT's logger that keeps warnings and errors in `lines`; nothing is printed."""
    import tensorrt

    class Logger(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(tensorrt.ILogger.Severity.WARNING):
                self.lines.append(msg)

    return Logger()


def make_monitor(report: Report | None) -> Any:
    """TensorRT's progress monitor that calls `report`; `cancelled`, and `error` where `report` raised."""
    import tensorrt

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self.error: BaseException | None = None
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return self._tell(phase_name, step + 1, self._steps.get(phase_name))

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.pop(phase_name, 0), None)

        def _tell(self, phase: str, done: int, total: int | None) -> bool:
            try:
                if report is not None and not self.cancelled:
                    self.cancelled = not report(phase, done, total)
            except BaseException as error:  # C++ above has no way to pass it on; raised after the build
                self.error, self.cancelled = error, True
            return not self.cancelled

    return Monitor()


def _parse(parser: tensorrt.OnnxParser, graph: Path) -> None:
    if parser.parse_from_file(str(graph)):
        return
    found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
    raise LnmtError(
        f"TensorRT cannot read the graph: {len(found)} errors",
        where=graph,
        value="; ".join(found[:10]) or "it did not say why",
        fix="a newer TensorRT may know these operators; else drop tensorrt from params.yaml: optimize.engines",
    )


def _parser_error(error: tensorrt.ParserError) -> str:
    return f"{error.node_name() or f'node {error.node()}'}: {error.desc()} ({error.code()})"


def _add_profile(config: tensorrt.IBuilderConfig, profile: tensorrt.IOptimizationProfile, shapes: Profile) -> None:
    for name in INPUTS:
        profile.set_shape(name, shapes.least, shapes.best, shapes.most)
    if config.add_optimization_profile(profile) < 0:
        raise LnmtError(
            "TensorRT refuses the optimisation profile",
            value=shapes,
            allowed="least ≤ best ≤ most, in both dimensions",
            fix="look at the bundle's max_tokens and pad_multiple",
        )


def _load_timing(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Attach the cache of earlier builds; one that is not for this machine, or broken, is left for a new one."""
    found = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(found)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _save_timing(config: tensorrt.IBuilderConfig, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        write_bytes(path, bytes(cache.serialize()))


def _not_built(graph: Path, logger: Any, monitor: Any) -> LnmtError:
    if monitor.cancelled:
        return LnmtError("the TensorRT build was cancelled", where=graph, fix="run the same command again")
    return LnmtError(
        "TensorRT cannot build the engine",
        where=graph,
        value=_last(logger.lines) or "it did not say why",
        fix="free memory of the GPU (nvidia-smi) and try again; else drop tensorrt from params.yaml: optimize.engines",
    )


def _last(lines: Sequence[str]) -> str:
    return "; ".join(line.strip()[:300] for line in lines[-5:])
