"""The NVIDIA GPUs of this machine, as its driver's own program tells: a process of its own can crash or hang alone."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

QUERY = ("name", "memory.total", "compute_cap", "driver_version")
PATIENCE_S = 5.0  # a driver that is in trouble answers never


@dataclass(frozen=True)
class GpuFacts:
    """One GPU."""

    name: str  # `NVIDIA H100 80GB HBM3`
    memory_gib: float
    capability: str  # compute capability, `9.0`
    driver: str


def list_gpus(patience_s: float = PATIENCE_S) -> tuple[GpuFacts, ...] | str:
    """Every GPU, or in words why none can be told. Never raises, and takes `patience_s` seconds at most."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no NVIDIA driver: nvidia-smi is not in PATH"
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=patience_s, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"nvidia-smi did not answer in {patience_s:g} s: restart the driver or the machine"
    except OSError as error:
        return f"nvidia-smi cannot be run: {error.strerror or error}"
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip().splitlines()
        return f"nvidia-smi says: {words[0][:200] if words else f'exit status {done.returncode}'}"
    try:
        found = tuple(map(_parse, filter(str.strip, done.stdout.splitlines())))
    except ValueError:
        return f"nvidia-smi gave what is not understood: {done.stdout.strip()[:200]!r}"
    return found or "the NVIDIA driver is installed but shows no GPU: is it given to this container?"


def _parse(line: str) -> GpuFacts:
    name, memory, capability, driver = (part.strip() for part in line.split(","))
    major, _, minor = capability.partition(".")
    return GpuFacts(name, round(float(memory) / 1024, 1), f"{int(major)}.{int(minor)}", driver)
