"""Live metrics: what a running stage writes to its progress file, in MLflow as it arrives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.errors import LnmtError
from lnmt.registry.connect import MAX_METRICS, explained
from lnmt.registry.registry import Registry
from lnmt.registry.version import metric_name
from lnmt.tail import Tail

POLL_S = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    name: str
    value: float
    step: int
    time: float  # unix seconds


def points(line: dict[str, Any], since: float) -> list[Point]:
    """The points of a line `{"time": s, "metrics": {name: value}, "step": n}`; none of another or an older one."""
    metrics, at = line.get("metrics"), float(line.get("time", 0.0))
    if not isinstance(metrics, dict) or at < since:
        return []
    step = int(line.get("step") or 0)
    return [Point(name, float(value), step, at) for name, value in metrics.items() if isinstance(value, int | float)]


def mirror(
    progress: Path,
    log: Callable[[Sequence[Point]], None],
    *,
    since: float,
    stopped: Callable[[float], bool],
) -> None:
    """Hand the metrics of a progress file to `log` as they come, until `stopped`, then the last ones.

    `since` (unix seconds) leaves out what an earlier run left in the file. `stopped(seconds)` waits at
    most so long and says whether to stop: `threading.Event().wait`. What `log` refuses with an
    LnmtError is offered again at the next look; at the last one the error is raised.
    """
    tail, waiting, last = Tail(progress), list[Point](), False
    while True:
        waiting += [point for line in tail.records() for point in points(line, since)]
        if waiting:
            try:
                log(waiting)
                waiting = []
            except LnmtError:
                if last:
                    raise
        if last:
            return
        last = stopped(POLL_S)


class LiveRun:
    """An MLflow run that begins with its first point: a stage that had nothing to do leaves none."""

    def __init__(self, registry: Registry, name: str, title: str) -> None:
        self._registry = registry
        self._name = name
        self._title = title
        self.id: str | None = None

    def log(self, new: Sequence[Point]) -> None:
        """Write points. Raises Transient where MLflow cannot be reached."""
        with explained(self._registry.tracking_uri):
            from mlflow.entities import Metric

            client = self._registry.client
            if self.id is None:
                experiment = self._registry.experiment(self._name)
                self.id = str(client.create_run(experiment, run_name=self._title).info.run_id)
            figures = [Metric(metric_name(p.name), p.value, round(p.time * 1000), p.step) for p in new]
            for start in range(0, len(figures), MAX_METRICS):
                client.log_batch(self.id, metrics=figures[start : start + MAX_METRICS])

    def end(self, *, ok: bool) -> None:
        """Close the run, where one began."""
        if self.id is not None:
            with explained(self._registry.tracking_uri):
                self._registry.client.set_terminated(self.id, status="FINISHED" if ok else "FAILED")


@contextmanager
def mirroring(progress: Path, registry: Registry, *, name: str, title: str) -> Iterator[LiveRun]:
    """While the block runs a stage, mirror the metrics in its progress file to an MLflow run.

    The run is in the experiment of the model `name`, and is called `title`; it fails where the block
    does. The figures are a comfort: where MLflow cannot take them, the log says so and the stage goes on.
    """
    run, stop = LiveRun(registry, name, title), threading.Event()

    def work() -> None:
        try:
            mirror(progress, run.log, since=began, stopped=stop.wait)
            run.end(ok=ok)
        except LnmtError as error:
            _LOG.warning("live metrics did not reach MLflow: %s", error)

    began, ok = round(time.time(), 3), False  # as progress files round it
    thread = threading.Thread(target=work, name="live metrics")
    thread.start()
    try:
        yield run
        ok = True
    finally:
        stop.set()
        thread.join()
