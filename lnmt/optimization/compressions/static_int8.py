"""Static 8 bits: products of int8 weights and activations, whose ranges were seen on calibration texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lnmt.errors import LnmtError, UnknownName
from lnmt.optimization.compressions import GraphCompression
from lnmt.optimization.compressions.int8_files import write_graph
from lnmt.optimization.compressions.int8_observe import observe
from lnmt.optimization.compressions.int8_products import Group, find_groups, load_graph, matching, matrix
from lnmt.optimization.compressions.int8_qdq import with_qdq, with_switches
from lnmt.optimization.compressions.int8_ranges import CALIBRATIONS, Calibration
from lnmt.optimization.compressions.int8_scales import GroupScales, group_scales
from lnmt.optimization.compressions.int8_sensitivity import Choice, Sensitivity, choose_kept
from lnmt.progress import Progress
from lnmt.types import Batch

SYMMETRIC = ("tensorrt", "tensorrt_rtx")  # engines that take no zero point


class StaticInt8(GraphCompression):
    """Every product with constant weights in 8 bits: weights with a scale for each output, activations with one.

    calibration: how a range is read from what was seen. `minmax` cuts nothing; `percentile` leaves out the outermost
        0.01 % of the values; `entropy` cuts where least information is lost (the divergence of histograms).
    keep_float: products that stay in floats. `none`; `auto`: the most sensitive ones, until the logits move by at most
        `max_distance`; or patterns of module names (`layer.0.*`, `head`).
    max_distance: ‖change of the logits‖ / ‖logits‖ on 64 calibration rows.
    max_kept: at most so many groups of products are kept by `auto`; a layer has four.

    Outliers of activations are shared with the weights (SmoothQuant, arXiv 2211.10438), as far as serves each group.
    """

    engines: ClassVar[tuple[str, ...]] = ("onnxruntime", "openvino", *SYMMETRIC)

    def __init__(
        self,
        calibration: Calibration = "minmax",
        keep_float: str | Sequence[str] = "auto",
        max_distance: float = 0.05,
        max_kept: int = 4,
    ) -> None:
        if calibration not in CALIBRATIONS:
            raise UnknownName("calibration of static_int8", str(calibration), CALIBRATIONS, where="calibration")
        if isinstance(keep_float, str) and keep_float not in ("auto", "none"):
            raise UnknownName("keep_float of static_int8", keep_float, ("auto", "none"), where="keep_float")
        if not max_distance > 0 or max_kept < 0:
            raise ValueError("max_distance is above 0, max_kept at least 0")
        self._calibration = calibration
        self._keep_float = keep_float
        self._max_distance = max_distance
        self._max_kept = max_kept
        self._decided: dict[str, Any] = {}

    def compress(
        self, graph: Path, engine: str, directory: Path, calibration: Callable[[], Sequence[Batch]], progress: Progress
    ) -> None:
        model = load_graph(graph)
        groups = find_groups(model)
        named = matching(groups, [] if isinstance(self._keep_float, str) else self._keep_float)
        batches = calibration()
        seen = observe(model, groups, batches, progress)
        scales = {
            group.name: group_scales(
                seen[group.activation],
                [matrix(model, product) for product in group.products],
                self._calibration,
                symmetric=engine in SYMMETRIC,
            )
            for group in groups
        }
        choice = self._choose(model, groups, scales, batches, named, progress)
        if len(choice.kept) == len(groups):
            raise LnmtError(
                "no product is left to quantise",
                where=graph,
                value=f"{len(groups)} of {len(groups)} groups stay in floats",
                fix="name fewer in keep_float, or allow more: max_distance",
            )
        write_graph(with_qdq(model, groups, scales, frozenset(choice.kept)), engine, directory)
        self._decided = {
            "groups": len(groups),
            **choice.as_json(),
            "smoothing": {name: one.alpha for name, one in scales.items() if name not in choice.kept},
        }

    def decided(self) -> dict[str, Any]:
        return self._decided

    def _choose(
        self,
        model: Any,
        groups: Sequence[Group],
        scales: dict[str, GroupScales],
        batches: Sequence[Batch],
        named: set[str],
        progress: Progress,
    ) -> Choice:
        sensitivity = Sensitivity(with_switches(model, groups, scales), groups, batches)
        names = [group.name for group in groups]
        if self._keep_float == "auto":
            return choose_kept(
                names,
                sensitivity.distance,
                max_distance=self._max_distance,
                max_kept=self._max_kept,
                progress=progress,
            )
        kept = tuple(name for name in names if name in named)
        return Choice(kept, sensitivity.distance(set(names) - named), {})
