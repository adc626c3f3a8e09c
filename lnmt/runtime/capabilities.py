"""What this machine can run, found without importing a back end: CPU, GPUs, libraries, engines × precisions."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from lnmt.runtime.availability import LIBRARIES, engines_for, int8_products
from lnmt.runtime.cpu import available_cores, this_cpu
from lnmt.runtime.gpus import Gpu, list_gpus

COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Capabilities:
    """One machine."""

    machine: str  # x86_64, aarch64
    cpu: str  # the CPU's own name, as far as the system tells
    cores: int  # that this process may use
    flags: tuple[str, ...]  # of lnmt.runtime.cpu.FLAGS, in that order
    libraries: Mapping[str, str | None]  # distribution → version; None: not installed
    engines: Mapping[str, Mapping[str, str | None]]  # engine → precision → why not; None: it runs here
    vendor: str = ""  # of the CPU: `GenuineIntel`, `AuthenticAMD`
    gpus: tuple[Gpu, ...] | str = ()  # NVIDIA's, or why there is none to use
    int8: str | None = None  # why products of 8-bit numbers gain little on the CPU; None: it has them

    @property
    def hardware(self) -> str:
        """The hardware class that measured evidence holds for: `x86_64/avx512_bf16/2 cores`, and the GPU, if any."""
        parts = [self.machine, self.flags[0] if self.flags else "baseline", f"{self.cores} cores"]
        gpus = () if isinstance(self.gpus, str) else self.gpus
        return "/".join([*parts, *(gpu.name for gpu in gpus[:1])])

    def why_not(self, engine: str, precision: str) -> str | None:
        """The reason that this pair cannot run here; None where it can, or where a plugin's engine is not known."""
        return self.engines.get(engine, {}).get(precision)


def capabilities() -> Capabilities:
    """Detect this machine."""
    cpu = this_cpu()
    libraries = {name: _version(name) for names in LIBRARIES.values() for name in names}
    gpus = list_gpus()
    gpu = gpus if isinstance(gpus, str) else gpus[0]
    return Capabilities(
        machine=platform.machine(),
        cpu=cpu.name,
        cores=available_cores(),
        flags=cpu.flags,
        libraries=libraries,
        engines=engines_for(cpu, gpu, libraries, compiler=any(map(shutil.which, COMPILERS))),
        vendor=cpu.vendor,
        gpus=gpus,
        int8=int8_products(cpu),
    )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
