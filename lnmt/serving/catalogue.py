"""The models of one service: its own, always loaded; others of the deployment store, loaded when asked for.

A model that nobody asked for takes no memory. Loaded ones are bounded: where the bound is reached, the
one that was asked for longest ago is unloaded, and so is one that was idle for too long.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from lnmt.observability.logging import get_logger
from lnmt.serving.core import Core
from lnmt.serving.live import RETRY_S, Watcher
from lnmt.serving.problems import Problem

log = get_logger(__name__)

State = Literal["cold", "loading", "ready", "failed", "unloaded"]
NAMES_S = 1.0  # for so long the store is not asked again which models there are
LOOK_S = 1.0  # between two looks for idle models
CLOSE_S = 20.0  # for what an unloaded model has accepted


@dataclass(frozen=True)
class Bounds:
    """How much may be loaded, how long it stays, and how many requests wait for a cold model."""

    bytes: int | None = None  # of all models but the service's own; None: no bound
    idle_s: float | None = None  # None: never unloaded for idleness
    waiting: int = 256


NO_BOUNDS = Bounds()


@dataclass
class _Slot:
    """One model's place."""

    core: Core | None = None
    watcher: Watcher | None = None
    loading: Future[None] | None = None
    waiting: int = 0
    used: float = field(default_factory=time.monotonic)
    unloaded: bool = False  # by an operator: it stays so until it is loaded by one
    failure: BaseException | None = None  # of the last loading
    failed_at: float = 0.0


@dataclass(frozen=True)
class Listed:
    """What `/models` tells of one."""

    name: str
    state: State
    generation: int | None
    champion: str | None
    bytes: int


class Catalogue:
    """Finds the Core of a model by its name. `open_core` makes one with nothing loaded; `names` asks the store."""

    def __init__(
        self,
        default: str,
        open_core: Callable[[str], Core],
        names: Callable[[], Collection[str]],
        bounds: Bounds = NO_BOUNDS,
        *,
        interval_s: float = 0.5,
    ) -> None:
        self.default = default
        self._open_core = open_core
        self._names = names
        self._bounds = bounds
        self._interval_s = interval_s
        self._slots: dict[str, _Slot] = {default: _Slot(core=open_core(default))}
        self._asked_at = -float("inf")
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tidy, name="idle-models", daemon=True)

    @property
    def own(self) -> Core:
        """The service's own model."""
        core = self._slots[self.default].core
        assert core is not None, "it is never unloaded"
        return core

    def start(self) -> None:
        """Begin to load the service's own model, and to watch what is live."""
        slot = self._slots[self.default]
        slot.watcher = Watcher(self.own.live, self._interval_s)
        slot.watcher.start()
        if self._bounds.idle_s is not None:
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Load nothing more, finish what was accepted."""
        self._stop.set()
        with self._lock:
            slots = list(self._slots.values())
        for slot in slots:
            _close(slot.core, slot.watcher, timeout_s)

    async def core(self, name: str, deadline: float) -> Core:
        """The model's core, loaded where it was not.

        Raises Problem 404 for a name that the store does not have, 503 where an operator unloaded it, it
        cannot be loaded, or too many wait already, and 504 where `deadline` (monotonic seconds) comes first.
        """
        slot = self._slots.get(name)
        if slot is None:
            await asyncio.to_thread(self._look)
            slot = self._slot(name)
        slot.used = time.monotonic()
        if name == self.default or (slot.core is not None and slot.core.live.snapshot is not None):
            assert slot.core is not None
            return slot.core
        if slot.unloaded:
            fix = f"an operator loads it: POST /models/{name}/load"
            raise Problem(503, "the model is unloaded", where=f"model {name}", fix=fix, headers={"Retry-After": "5"})
        if slot.waiting >= self._bounds.waiting:
            fix = "wait until it is loaded"
            raise Problem(
                503, "too many wait for this model", where=f"model {name}", fix=fix, headers={"Retry-After": "1"}
            )
        slot.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await asyncio.shield(asyncio.wrap_future(self._load(name, slot)))
        except TimeoutError:
            fix = "allow more time, or send again when it is loaded"
            raise Problem(504, "the model was not loaded in time", where=f"model {name}", fix=fix) from None
        finally:
            slot.waiting -= 1
        if slot.core is None:
            raise Problem(503, "the model is unloaded", where=f"model {name}", fix="send again")
        return slot.core

    def loaded(self, name: str) -> Core:
        """The model's core, nothing loaded for it.

        Raises Problem 404 for an unknown name, 503 where it is not loaded.
        """
        slot = self._slot(name)
        if slot.core is None:
            fix = "ask it something, or load it: POST /models/NAME/load"
            raise Problem(503, "the model is not loaded", where=f"model {name}", fix=fix)
        return slot.core

    async def load(self, name: str) -> None:
        """Load it, for an operator. Raises Problem 404 for a name that the store does not have, 503 with why not."""
        await asyncio.to_thread(self._look)
        slot = self._slot(name)
        slot.unloaded, slot.failure = False, None
        if name != self.default:
            await asyncio.wrap_future(self._load(name, slot))

    def unload(self, name: str) -> None:
        """Give its memory back when what it accepted is answered: blocking.

        Raises Problem 404 for an unknown name, 409 for the service's own.
        """
        if name == self.default:
            fix = "release another bundle instead: lnmt release"
            raise Problem(409, "the service's own model stays", where=f"model {name}", fix=fix)
        slot = self._slot(name)
        slot.unloaded = True
        self._drop(name, slot)

    def listed(self) -> list[Listed]:
        """Every model that the service has or could load."""
        self._look()
        with self._lock:
            return [self._listed(name, slot) for name, slot in sorted(self._slots.items())]

    def _listed(self, name: str, slot: _Slot) -> Listed:
        snapshot = None if slot.core is None else slot.core.live.snapshot
        generation = None if snapshot is None else snapshot.deployment.generation
        champion = None if snapshot is None else snapshot.deployment.champion
        return Listed(name, _state(slot), generation, champion, 0 if snapshot is None else snapshot.bytes)

    def _look(self) -> None:
        """Ask the store which models there are, not oftener than every NAMES_S: names come from requests."""
        with self._lock:
            if time.monotonic() - self._asked_at < NAMES_S:
                return
            self._asked_at = time.monotonic()
            for name in self._names():
                self._slots.setdefault(name, _Slot())

    def _slot(self, name: str) -> _Slot:
        """Its place. Raises Problem 404 for a name that the store did not have when it was last asked."""
        slot = self._slots.get(name)
        if slot is None:
            allowed = ", ".join(sorted(self._slots))
            fix = "GET /models lists them"
            raise Problem(404, "unknown model", where="name in the path", allowed=allowed, fix=fix)
        return slot

    def _load(self, name: str, slot: _Slot) -> Future[None]:
        """The loading that is under way, or a new one; one that failed is not tried again at once."""
        with self._lock:
            if slot.failure is not None and time.monotonic() - slot.failed_at < RETRY_S:
                raise slot.failure
            if slot.loading is None:
                slot.loading = Future()
                threading.Thread(target=self._load_now, args=(name, slot, slot.loading), daemon=True).start()
            return slot.loading

    def _load_now(self, name: str, slot: _Slot, loading: Future[None]) -> None:
        try:
            core = slot.core or self._open_core(name)
            core.live.refresh()
            core.snapshot()  # raises why there is none
            watcher = Watcher(core.live, self._interval_s)
            with self._lock:
                slot.core, slot.watcher, slot.loading, slot.failure = core, watcher, None, None
            watcher.start()
            self._make_room(name)
        except BaseException as error:  # it goes to those who wait
            with self._lock:
                slot.loading, slot.failure, slot.failed_at = None, error, time.monotonic()
            loading.set_exception(error)
        else:
            loading.set_result(None)

    def _make_room(self, keep: str) -> None:
        """Unload those asked for longest ago while more is loaded than may be."""
        bound = self._bounds.bytes
        if bound is None:
            return
        with self._lock:
            others = [item for item in self._slots.items() if item[0] not in (self.default, keep) and item[1].core]
            others.sort(key=lambda item: item[1].used)
        while others and self._loaded_bytes() > bound:
            self._drop(*others.pop(0))

    def _loaded_bytes(self) -> int:
        with self._lock:
            cores = [slot.core for name, slot in self._slots.items() if name != self.default]
        snapshots = [core.live.snapshot for core in cores if core is not None]
        return sum(snapshot.bytes for snapshot in snapshots if snapshot is not None)

    def _drop(self, name: str, slot: _Slot) -> None:
        with self._lock:
            core, watcher = slot.core, slot.watcher
            slot.core = slot.watcher = None
        if core is not None:
            _close(core, watcher, CLOSE_S)
            log.info("model unloaded", model=name)

    def _tidy(self) -> None:
        """Unload what was idle for too long."""
        idle_s = self._bounds.idle_s
        assert idle_s is not None
        while not self._stop.wait(min(LOOK_S, idle_s)):
            with self._lock:
                idle = [
                    (name, slot)
                    for name, slot in self._slots.items()
                    if name != self.default and slot.core and time.monotonic() - slot.used > idle_s
                ]
            for name, slot in idle:
                self._drop(name, slot)


def _state(slot: _Slot) -> State:
    if slot.core is not None:
        return "ready" if slot.core.live.snapshot is not None else "failed" if slot.core.live.failed else "loading"
    if slot.loading is not None:
        return "loading"
    return "unloaded" if slot.unloaded else "failed" if slot.failure is not None else "cold"


def _close(core: Core | None, watcher: Watcher | None, timeout_s: float) -> None:
    if watcher is not None:
        watcher.stop(timeout_s)
    if core is not None:
        core.live.close(timeout_s)
