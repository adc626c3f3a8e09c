"""What is served now, and how it follows the deployment row: load beside the old, warm up, switch at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lnmt.bundles import Bundle
from lnmt.bundles.served import check_served
from lnmt.errors import LnmtError
from lnmt.observability.logging import FailureLog, get_logger
from lnmt.observability.metrics import Metrics
from lnmt.observability.tracing import process_tracing
from lnmt.rollout.deployment import Deployment
from lnmt.runtime.predictor import Predictor
from lnmt.serving.batching.batcher import Batcher, Observer
from lnmt.serving.batching.policy import Reason
from lnmt.serving.lifecycle import STARTING
from lnmt.serving.limits import Limits
from lnmt.types import Arm

log = get_logger(__name__)

RETRY_S = 10.0  # a candidate that could not be loaded is tried again after this, or when the row changes


class Source(Protocol):
    """Where deployments and bundles come from."""

    def deployment(self) -> Deployment | None:
        """What should be live; None where nothing was released and nothing is packed."""

    def bundle(self, digest: str) -> Bundle:
        """The verified bundle."""

    def close(self) -> None:
        """Leave the database."""


@dataclass(frozen=True)
class Snapshot:
    """One generation, loaded: a request is answered within one snapshot."""

    deployment: Deployment
    batchers: Mapping[str, Batcher]  # by digest

    @property
    def bytes(self) -> int:
        """Of the loaded bundles' files: about what the engines hold of them in memory."""
        paths = (batcher.predictor.bundle.path for batcher in self.batchers.values())
        return sum(file.stat().st_size for path in paths for file in path.rglob("*") if file.is_file())

    def batcher(self, arm: Arm) -> Batcher:
        """The arm's engine."""
        digest = self.deployment.champion if arm == "champion" else self.deployment.challenger
        assert digest is not None, f"generation {self.deployment.generation} has no {arm}"
        return self.batchers[digest]


class Live:
    """The present snapshot. One thread calls `refresh`; anyone reads `snapshot` and `reason`."""

    def __init__(
        self, source: Source, open_predictor: Callable[[Bundle], Predictor], limits: Limits, metrics: Metrics, name: str
    ) -> None:
        self.snapshot: Snapshot | None = None
        self.reason = STARTING  # why there is no snapshot
        self._source = source
        self._open_predictor = open_predictor
        self._limits = limits
        self._metrics = metrics
        self._name = name
        self._failed: Deployment | None = None
        self._retry_at = 0.0
        self._seen_at = time.monotonic()
        self._failures = FailureLog(log)
        self._retired: list[Batcher] = []

    @property
    def stale_s(self) -> float:
        """Seconds since the deployment could be read."""
        return time.monotonic() - self._seen_at

    @property
    def failed(self) -> bool:
        """What should be live could not be loaded."""
        return self._failed is not None

    def refresh(self) -> bool:
        """Look once at what should be live; True where a new generation was switched in.

        Whatever fails, what was served stays, and the failure is logged once.
        """
        try:
            wanted = self._source.deployment()
        except Exception as error:  # a database may raise anything; serving goes on without it
            self._complain("the deployment cannot be read", error)
            return False
        self._seen_at = time.monotonic()
        if wanted is None:
            self.reason = "no model released yet"
            return False
        now = self.snapshot
        if now is not None and now.deployment == wanted:
            self._failures.went_well()
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
        self._failed = None
        self._failures.went_well()
        self._metrics.generation.labels(self._name).set(wanted.generation)
        self._metrics.bundle_bytes.labels(self._name).set(snapshot.bytes)
        log.info(
            "generation switched",
            generation=wanted.generation,
            phase=wanted.phase,
            champion=wanted.champion,
            challenger=wanted.challenger,
            share=wanted.share,
        )
        if now is not None:
            self._retire([batcher for digest, batcher in now.batchers.items() if digest not in snapshot.batchers])
        return True

    def close(self, timeout_s: float) -> None:
        """Serve nothing more; finish what was accepted."""
        snapshot, self.snapshot, self.reason = self.snapshot, None, "stopping"
        self._retire(list(snapshot.batchers.values()) if snapshot else [])
        ends = time.monotonic() + timeout_s
        for batcher in self._retired:
            if not batcher.join(max(0.0, ends - time.monotonic())):
                log.warning("an engine was still busy at the end", bundle=batcher.predictor.bundle.digest)
        self._source.close()

    def _load(self, wanted: Deployment, now: Snapshot | None) -> Snapshot:
        """Every bundle of `wanted`, those that run already as they are."""
        running = dict(now.batchers) if now is not None else {}
        batchers: dict[str, Batcher] = {}
        opened: list[Batcher] = []
        try:
            for arm, digest in (("champion", wanted.champion), ("challenger", wanted.challenger)):
                if digest is None or digest in batchers:
                    continue
                batcher = running.get(digest)
                if batcher is None:
                    batcher = self._start(digest, arm)
                    opened.append(batcher)
                batchers[digest] = batcher
        except BaseException:
            self._retire(opened)
            raise
        return Snapshot(wanted, batchers)

    def _start(self, digest: str, arm: str) -> Batcher:
        started = time.perf_counter()
        try:
            predictor = self._open_predictor(check_served(self._source.bundle(digest)))
        except BaseException:
            self._metrics.observe_load(self._name, None)
            raise
        manifest = predictor.bundle.manifest
        seconds = round(time.perf_counter() - started, 3)
        self._metrics.observe_load(self._name, seconds)
        log.info("bundle loaded", digest=digest, arm=arm, engine=manifest.engine, seconds=seconds)
        counted = _Counted(self._metrics, self._name, manifest.engine)
        return Batcher(predictor, self._limits, counted, process_tracing())

    def _retire(self, batchers: list[Batcher]) -> None:
        for batcher in batchers:
            batcher.retire()
        self._retired = [batcher for batcher in [*self._retired, *batchers] if not batcher.join(0)]

    def _complain(self, what: str, error: Exception) -> None:
        """Log a failure once, and give it as the reason where nothing is served."""
        cause = error.what if isinstance(error, LnmtError) else type(error).__name__
        if self.snapshot is None:
            self.reason = f"{what}: {cause}"
        self._failures.failed(what, error)


class _Counted(Observer):
    """Puts a batcher's figures into the metrics."""

    def __init__(self, metrics: Metrics, model: str, engine: str) -> None:
        self._metrics = metrics.engine(model, engine)

    def batch(
        self, *, rows: int, tokens: int, padded: int, seconds: float, ages_s: Sequence[float], reason: Reason
    ) -> None:
        self._metrics.observe_release(reason, ages_s)
        self._metrics.observe_batch(rows, tokens, padded, seconds)


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
