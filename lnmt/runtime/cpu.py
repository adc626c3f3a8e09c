"""The CPU: its name, the flags that matter, and the cores that this process may use."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

# Flags that change which numbers an engine can be fast in, the strongest first; `bf16` and `asimddp` are Arm's.
FLAGS = ("amx_bf16", "amx_int8", "avx512_bf16", "bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimd")
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
INT8_FLAGS = frozenset({"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"})
FP16_FLAGS = frozenset({"amx_fp16", "avx512_fp16"})  # whole products in fp16; f16c only converts


@dataclass(frozen=True)
class Cpu:
    """One machine's CPU."""

    name: str  # its own, as far as the system tells
    vendor: str  # `GenuineIntel`, `AuthenticAMD`; empty where the system does not tell
    all_flags: frozenset[str]

    @property
    def flags(self) -> tuple[str, ...]:
        """Those of FLAGS that it has, in that order."""
        return tuple(flag for flag in FLAGS if flag in self.all_flags)

    def has(self, flags: frozenset[str]) -> bool:
        """Whether it has any of `flags`."""
        return bool(flags & self.all_flags)


def read_cpu(path: Path = Path("/proc/cpuinfo")) -> Cpu:
    """What a file like /proc/cpuinfo tells; nothing where there is none."""
    found = {"model name": "", "vendor_id": "", "CPU implementer": ""}
    flags = set[str]()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if key in {"flags", "Features"}:
            flags.update(value.split())
        elif key in found:
            found[key] = value
    return Cpu(found["model name"], found["vendor_id"] or found["CPU implementer"], frozenset(flags))


def this_cpu() -> Cpu:
    """This machine's."""
    found = read_cpu()
    return found if found.name else Cpu(platform.processor() or platform.machine(), found.vendor, found.all_flags)


def available_cores() -> int:
    """Cores that this process may use: its CPU affinity, cut by the container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, read_quota(Path("/sys/fs/cgroup/cpu.max")) or cores))


def read_quota(path: Path) -> int | None:
    """Whole cores of a `cpu.max` file (`200000 100000` → 2), None where it sets no limit."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
