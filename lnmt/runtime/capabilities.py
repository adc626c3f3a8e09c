"""What this machine can run, found without importing a back end: CPU flags, libraries, engines × precisions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Flags that change which numbers an engine can be fast in, the strongest first; `bf16` is Arm's.
FLAGS = ("amx_bf16", "amx_int8", "avx512_bf16", "bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimd")
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
LIBRARIES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}  # engine → distribution
NO_BF16 = "the CPU has no bf16 arithmetic (amx_bf16, avx512_bf16 or Arm bf16): it would be emulated"


@dataclass(frozen=True)
class Capabilities:
    """One machine."""

    machine: str  # x86_64, aarch64
    cpu: str  # the CPU's own name, as far as the system tells
    cores: int  # that this process may use
    flags: tuple[str, ...]  # of FLAGS, in that order
    libraries: Mapping[str, str | None]  # distribution → version; None: not installed
    engines: Mapping[str, Mapping[str, str | None]]  # engine → precision → why not; None: it runs here

    @property
    def hardware(self) -> str:
        """The hardware class that measured evidence holds for: `x86_64/avx512_bf16/2 cores`."""
        return f"{self.machine}/{self.flags[0] if self.flags else 'baseline'}/{self.cores} cores"

    def why_not(self, engine: str, precision: str) -> str | None:
        """The reason that this pair cannot run here; None where it can, or where a plugin's engine is not known."""
        return self.engines.get(engine, {}).get(precision)


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut by the container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _quota(Path("/sys/fs/cgroup/cpu.max")) or cores))


def capabilities() -> Capabilities:
    """Detect this machine."""
    cpu, flags = read_cpu(Path("/proc/cpuinfo"))
    libraries = {name: _version(name) for name in LIBRARIES.values()}
    return Capabilities(
        machine=platform.machine(),
        cpu=cpu or platform.processor() or platform.machine(),
        cores=available_cores(),
        flags=flags,
        libraries=libraries,
        engines=engines_for(flags, libraries),
    )


def read_cpu(path: Path) -> tuple[str, tuple[str, ...]]:
    """The name and the flags that matter, from a file like /proc/cpuinfo; empty where there is none."""
    name, found = "", set[str]()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return name, ()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            found.update(value.split())
        elif key.strip() == "model name":
            name = value.strip()
    return name, tuple(flag for flag in FLAGS if flag in found)


def engines_for(flags: tuple[str, ...], libraries: Mapping[str, str | None]) -> dict[str, dict[str, str | None]]:
    """Engine → precision → why it cannot run with these flags and libraries, or None."""
    no_bf16 = None if BF16_FLAGS.intersection(flags) else NO_BF16
    reasons: dict[str, dict[str, str | None]] = {
        "torch": {"fp32": None, "bf16": no_bf16},
        "onnxruntime": {"fp32": None, "bf16": "ONNX Runtime has no bf16 kernels on CPUs"},
        "openvino": {"fp32": None, "bf16": no_bf16},
    }
    for engine, distribution in LIBRARIES.items():
        if libraries.get(distribution) is None:
            missing = f"{distribution} is not installed: pip install {distribution}"
            reasons[engine] = dict.fromkeys(reasons[engine], missing)
    return reasons


def _quota(path: Path) -> int | None:
    """Whole cores of a `cpu.max` file (`200000 100000` → 2), None where it sets no limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
