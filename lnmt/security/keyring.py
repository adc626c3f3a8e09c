"""The keys of a service in memory: checked without the database, refreshed from it by a thread."""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lnmt.observability.logging import FailureLog, get_logger
from lnmt.security.keys import digest, key_id
from lnmt.security.peppers import Peppers
from lnmt.security.principal import Principal
from lnmt.security.table import Key, KeyTable, Stamp

log = get_logger(__name__)

REFRESH_S = 0.5  # a revocation holds everywhere within twice this
STALE_S = 30.0  # after so long without the database a process should get no new traffic
STOP_S = 5.0


@dataclass(frozen=True)
class _Known:
    pepper: bytes
    digest: bytes  # in hexadecimal
    principal: Principal


class Keyring:
    """Every key that is not revoked. One thread calls `refresh`; anyone calls `check`.

    While the database is away the keys known last go on working, and revocations wait: `stale_s` says
    for how long already.
    """

    def __init__(self, table: KeyTable, peppers: Peppers, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._peppers = peppers
        self._clock = clock
        self._known: Mapping[str, _Known] = {}
        # compared against where the id is unknown, so that this takes as long; no key has this digest
        self._nobody = _Known(peppers.newest[1], b"", Principal("", "viewer"))
        self._stamp: Stamp | None = None
        self._seen_at: float | None = None
        self._failures = FailureLog(log)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keyring", daemon=True)

    def check(self, plaintext: str) -> Principal | None:
        """Who holds this key; None for one that is malformed, unknown or revoked.

        Nothing of a key is kept, in a cache neither: the HMAC takes microseconds.
        """
        identity = key_id(plaintext)
        if identity is None:
            return None
        known = self._known.get(identity, self._nobody)
        same = hmac.compare_digest(digest(known.pepper, plaintext).encode(), known.digest)
        return known.principal if same else None

    @property
    def stale_s(self) -> float:
        """Seconds since the table was last seen, infinite before: above STALE_S the process is not ready."""
        return math.inf if self._seen_at is None else self._clock() - self._seen_at

    def refresh(self) -> bool:
        """Look once; True where the keys were other ones than before. Whatever fails, what is known stays."""
        began = self._clock()
        try:
            stamp = self._table.stamp()
            changed = stamp != self._stamp
            if changed:
                self._take(self._table.all())
                self._stamp = stamp
        except Exception as error:  # a database may raise anything; serving goes on without it
            self._failures.failed("the API keys cannot be read", error)
            return False
        self._seen_at = began
        if self._failures.went_well():
            log.info("the API keys can be read again")
        return changed

    def start(self) -> None:
        """Begin to follow the table; the first look is under way when this returns."""
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End after the look that is under way, and close the table."""
        self._stop.set()
        self._thread.join(timeout_s)
        self._table.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(REFRESH_S)

    def _take(self, keys: list[Key]) -> None:
        known: dict[str, _Known] = {}
        lost: list[str] = []
        for key in keys:
            if key.revoked is not None:
                continue
            pepper = self._peppers.find(key.pepper)
            if pepper is None:
                lost.append(key.id)
            else:
                principal = Principal(key.id, key.role, key.rate_per_s)
                known[key.id] = _Known(pepper, key.digest.encode(), principal)
        self._known = known
        if lost:
            fix = "give this process the pepper that they were made with (LNMT_PEPPER), or make new keys"
            log.warning("keys of a pepper that is not here do not work", keys=lost, fix=fix)
