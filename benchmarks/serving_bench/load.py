"""The load: `wrk`, a closed loop in C; so many requests are always under way, and a reply is followed by the next.

Its percentiles make up for what a closed loop leaves out: a request that took n times the usual stands for n − 1 others
that would have been sent meanwhile (wrk's `stats_correct`). So a tail counts more than it would in a plain list; for
every server alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnmt.errors import LnmtError

SCRIPT = Path(__file__).with_name("load.lua")
MOST_THREADS = 2
TIMEOUT_S = 30  # of a request; wrk tells those that took longer


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured; times from the request's first byte to the reply's last."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    failures: Mapping[str, int]  # connect, read, write, status (400 and above), timeout

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def find_wrk() -> Path:
    """The program; installed from Debian's packages where it is missing and that is allowed. Raises LnmtError."""
    found = shutil.which("wrk")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", "wrk"], stdout=subprocess.DEVNULL, check=False)
        found = shutil.which("wrk")
    if found is None:
        raise LnmtError("wrk is not installed", where="PATH", fix="apt-get update; apt-get install wrk")
    return Path(found)


def wrk_version(wrk: Path) -> str:
    """`4.1.0`, as far as it tells."""
    done = subprocess.run([str(wrk), "--version"], stdout=subprocess.PIPE, text=True, check=False)  # exits 1
    words = done.stdout.split()
    return words[1] if len(words) > 1 else "unknown"


def run_wrk(wrk: Path, url: str, bodies: Path, *, start: int, concurrency: int, seconds: int, least: int = 1) -> Load:
    """So many requests at once for so long; `start`: the place of the first body.

    Raises LnmtError where one of them was not answered with a status below 400, or fewer than `least` were.
    """
    threads = min(MOST_THREADS, concurrency)
    options = [f"-t{threads}", f"-c{concurrency}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_S}s"]
    header = ["-H", "Content-Type: application/json"]
    command = [str(wrk), *options, *header, "-s", str(SCRIPT), url, "--", str(bodies), str(start), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        fix = "see what it said: " + (done.stderr or done.stdout).strip()[-300:]
        raise LnmtError("wrk failed", where=url, value=f"exit code {done.returncode}", fix=fix)
    return check_load(parse(done.stdout), f"{url} at concurrency {concurrency}", least)


def parse(output: str) -> Load:
    """The line of JSON that load.lua writes behind wrk's own report."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise LnmtError("wrk's script told nothing", where=SCRIPT, value=output[-300:], fix="use wrk 4.0 or newer")
    return Load(**json.loads(lines[-1]))


def check_load(load: Load, where: str, least: int = 1) -> Load:
    """`load`, if every request was answered, and at least so many were. Raises LnmtError."""
    failures = {name: count for name, count in load.failures.items() if count}
    if failures or load.requests < least:
        raise LnmtError(
            "requests were not answered, so the figures mean nothing",
            where=where,
            value=", ".join(f"{name}: {count}" for name, count in failures.items()) or "no request at all",
            allowed=f"status below 400 within {TIMEOUT_S} s, {load.requests} requests in all",
            fix="look at the server's log; a server that refuses work needs other settings",
        )
    return load
