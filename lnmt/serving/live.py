"""What is served now, and how it follows the deployment row: load beside the old, warm up, switch at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lnmt.bundles import Bundle
from lnmt.bundles.served import check_served
from lnmt.errors import LnmtError
from lnmt.observability.logging import get_logger
from lnmt.observability.metrics import Metrics
from lnmt.rollout.deployment import Deployment
from lnmt.runtime.predictor import Predictor
from lnmt.serving.limits import Limits
from lnmt.serving.worker import Worker
from lnmt.types import Arm

log = get_logger(__name__)

RETRY_S = 10.0  # a candidate that could not be loaded is tried again after this, or when the row changes


class Source(Protocol):
    """Where deployments and bundles come from."""

    def deployment(self) -> Deployment | None:
        """What should be live; None where nothing was released and nothing is packed."""

    def bundle(self, digest: str) -> Bundle:
        """The verified bundle."""


@dataclass(frozen=True)
class Snapshot:
    """One generation, loaded: a request is answered within one snapshot."""

    deployment: Deployment
    workers: Mapping[str, Worker]  # by digest

    def worker(self, arm: Arm) -> Worker:
        """The arm's engine."""
        digest = self.deployment.champion if arm == "champion" else self.deployment.challenger
        assert digest is not None, f"generation {self.deployment.generation} has no {arm}"
        return self.workers[digest]


class Live:
    """The present snapshot. One thread calls `refresh`; anyone reads `snapshot` and `reason`."""

    def __init__(
        self, source: Source, open_predictor: Callable[[Bundle], Predictor], limits: Limits, metrics: Metrics, name: str
    ) -> None:
        self.snapshot: Snapshot | None = None
        self.reason = "starting"  # why there is no snapshot
        self._source = source
        self._open_predictor = open_predictor
        self._limits = limits
        self._metrics = metrics
        self._name = name
        self._failed: Deployment | None = None
        self._retry_at = 0.0
        self._complaint: str | None = None
        self._retired: list[Worker] = []

    def refresh(self) -> bool:
        """Look once at what should be live; True where a new generation was switched in.

        Whatever fails, what was served stays, and the failure is logged once.
        """
        try:
            wanted = self._source.deployment()
        except Exception as error:  # a database may raise anything; serving goes on without it
            self._complain("the deployment cannot be read", error)
            return False
        if wanted is None:
            self.reason = "no model released yet"
            return False
        now = self.snapshot
        if now is not None and now.deployment == wanted:
            self._complaint = None
            return False
        if wanted == self._failed and time.monotonic() < self._retry_at:
            return False
        try:
            snapshot = self._load(wanted, now)
        except Exception as error:  # a corrupt or failing candidate leaves the old serving
            self._failed, self._retry_at = wanted, time.monotonic() + RETRY_S
            self._complain(f"generation {wanted.generation} cannot be loaded", error)
            return False
        self.snapshot = snapshot
        self._failed = self._complaint = None
        self._metrics.generation.labels(self._name).set(wanted.generation)
        log.info(
            "generation switched",
            generation=wanted.generation,
            phase=wanted.phase,
            champion=wanted.champion,
            challenger=wanted.challenger,
            share=wanted.share,
        )
        if now is not None:
            self._retire([worker for digest, worker in now.workers.items() if digest not in snapshot.workers])
        return True

    def close(self, timeout_s: float) -> None:
        """Serve nothing more; finish what was accepted."""
        snapshot, self.snapshot, self.reason = self.snapshot, None, "stopping"
        self._retire(list(snapshot.workers.values()) if snapshot else [])
        ends = time.monotonic() + timeout_s
        for worker in self._retired:
            if not worker.join(max(0.0, ends - time.monotonic())):
                log.warning("an engine was still busy at the end", bundle=worker.predictor.bundle.digest)

    def _load(self, wanted: Deployment, now: Snapshot | None) -> Snapshot:
        """Every bundle of `wanted`, those that run already as they are."""
        running = dict(now.workers) if now is not None else {}
        workers: dict[str, Worker] = {}
        opened: list[Worker] = []
        try:
            for arm, digest in (("champion", wanted.champion), ("challenger", wanted.challenger)):
                if digest is None or digest in workers:
                    continue
                worker = running.get(digest)
                if worker is None:
                    worker = self._start(digest, arm)
                    opened.append(worker)
                workers[digest] = worker
        except BaseException:
            self._retire(opened)
            raise
        return Snapshot(wanted, workers)

    def _start(self, digest: str, arm: str) -> Worker:
        started = time.perf_counter()
        try:
            predictor = self._open_predictor(check_served(self._source.bundle(digest)))
        except BaseException:
            self._metrics.loads.labels(self._name, "failed").inc()
            raise
        self._metrics.loads.labels(self._name, "loaded").inc()
        manifest = predictor.bundle.manifest
        seconds = round(time.perf_counter() - started, 3)
        log.info("bundle loaded", digest=digest, arm=arm, engine=manifest.engine, seconds=seconds)
        return Worker(predictor, self._limits, self._metrics.engine_seconds.labels(self._name, manifest.engine).observe)

    def _retire(self, workers: list[Worker]) -> None:
        for worker in workers:
            worker.retire()
        self._retired = [worker for worker in [*self._retired, *workers] if not worker.join(0)]

    def _complain(self, what: str, error: Exception) -> None:
        """Log a failure once for as long as it stays the same."""
        cause = error.what if isinstance(error, LnmtError) else type(error).__name__
        if self.snapshot is None:
            self.reason = f"{what}: {cause}"
        if self._complaint == (complaint := f"{what}: {error}"):
            return
        self._complaint = complaint
        if isinstance(error, LnmtError):
            log.error(what, error=error.what, where=str(error.where), fix=error.fix)
        else:
            log.error(what, exc_info=error)


class Watcher:
    """Calls `Live.refresh` now and every `interval_s` in a thread of its own."""

    def __init__(self, live: Live, interval_s: float = 0.5) -> None:
        self._live = live
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deployment-watcher", daemon=True)

    def start(self) -> None:
        """Begin; the first look is under way when this returns."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after the look that is under way."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._live.refresh()
            self._stop.wait(self._interval_s)
