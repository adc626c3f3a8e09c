from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lnmt.runtime import ENGINES
from lnmt.runtime import availability as module
from lnmt.runtime.availability import NO_BF16, NO_COMPILER, NO_FP16, PRECISIONS, engines_for, int8_products
from lnmt.runtime.capabilities import Capabilities, capabilities
from lnmt.runtime.cpu import Cpu, read_cpu, read_quota
from lnmt.runtime.gpus import Gpu, Version

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8
processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8
"""
VERSIONS: dict[str, str | None] = {names[0]: "1" for names in module.LIBRARIES.values()}
NONE = "no NVIDIA GPU: there is none"
L4 = Gpu("NVIDIA L4", Version(8, 9), Version(13, 0), "580.65.06", 22.5)


def cpu_of(*flags: str) -> Cpu:
    return Cpu("some", "vendor", frozenset(flags))


def test_flags_are_read_strongest_first(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    found = read_cpu(path)
    assert (found.name, found.vendor) == ("Some CPU @ 2.0GHz", "GenuineIntel")
    assert found.flags == ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    path.write_text("CPU implementer\t: 0x41\nFeatures\t: fp asimd bf16 asimddp\n")
    assert (read_cpu(path).vendor, read_cpu(path).flags) == ("0x41", ("bf16", "asimd"))
    assert int8_products(read_cpu(path)) is None
    assert read_cpu(tmp_path / "none") == Cpu("", "", frozenset())


def test_bf16_needs_the_cpu() -> None:
    with_it = engines_for(cpu_of("avx512_bf16"), NONE, VERSIONS)
    without = engines_for(cpu_of("avx512f", "avx2"), NONE, VERSIONS)
    for engine in ("torch", "torch_compile", "torchscript", "openvino"):
        assert (with_it[engine]["bf16"], without[engine]["bf16"]) == (None, NO_BF16)
        assert without[engine]["fp32"] is None
    assert with_it["onnxruntime"]["bf16"] == "ONNX Runtime has no bf16 kernels on CPUs"


def test_fp16_is_offered_only_where_it_is_real() -> None:
    plain = engines_for(cpu_of("avx512_bf16", "f16c"), NONE, VERSIONS)
    assert plain["openvino"]["fp16"] == NO_FP16
    assert plain["torch"]["fp16"] == f"PyTorch runs fp16 on GPUs alone: {NONE}"
    assert "emulates" in (plain["onnxruntime"]["fp16"] or "")
    assert engines_for(cpu_of("amx_fp16"), NONE, VERSIONS)["openvino"]["fp16"] is None
    assert engines_for(cpu_of(), L4, VERSIONS)["torch"]["fp16"] is None
    built_for_cpus = engines_for(cpu_of(), L4, {**VERSIONS, "torch": "2.13.0+cpu"})
    assert "install its build for CUDA" in (built_for_cpus["torch"]["fp16"] or "")
    assert engines_for(cpu_of(), L4, {**VERSIONS, "onnxruntime-gpu": "1"})["onnxruntime"]["fp16"] is None


def test_a_library_that_is_not_there_says_how_to_get_it() -> None:
    found = engines_for(cpu_of("avx512_bf16"), NONE, {**VERSIONS, "openvino": None, "torch": None})
    assert set(found["openvino"].values()) == {"openvino is not installed: pip install openvino"}
    assert set(found["torchscript"].values()) == {"torch is not installed: pip install torch"}
    other = engines_for(cpu_of(), NONE, {**VERSIONS, "onnxruntime": None, "onnxruntime-gpu": "1"})
    assert other["onnxruntime"]["fp32"] is None


def test_torch_compile_needs_a_compiler() -> None:
    found = engines_for(cpu_of(), NONE, VERSIONS, compiler=False)
    assert set(found["torch_compile"].values()) == {NO_COMPILER}
    assert found["torch"]["fp32"] is None


def test_without_a_gpu_its_engines_say_so() -> None:
    found = engines_for(cpu_of(), NONE, VERSIONS)
    assert set(found["tensorrt"].values()) == set(found["tensorrt_rtx"].values()) == {NONE}


def test_int8_is_a_question_of_its_own() -> None:
    assert int8_products(cpu_of("avx512_vnni")) is None
    assert "no 8-bit dot products" in (int8_products(cpu_of("avx2")) or "")


def test_this_machine() -> None:
    found = capabilities()
    assert found.libraries["torch"] is not None
    assert found.engines["torch"]["fp32"] is None
    assert found.cores >= 1
    assert found.hardware.startswith(f"{found.machine}/")
    assert f"/{found.cores} cores" in found.hardware
    assert sorted(found.engines) == ENGINES.names()
    assert all(tuple(precisions) == PRECISIONS for precisions in found.engines.values())


def test_the_hardware_class() -> None:
    found = Capabilities("x86_64", "c", 2, ("avx512_bf16", "avx2"), {}, {"torch": {"fp32": "no"}})
    assert found.hardware == "x86_64/avx512_bf16/2 cores"
    assert found.why_not("torch", "fp32") == "no"
    assert found.why_not("someones_plugin", "fp32") is None
    assert replace(found, gpus=(L4, L4)).hardware == "x86_64/avx512_bf16/2 cores/NVIDIA L4"
    assert replace(found, gpus=NONE).hardware == "x86_64/avx512_bf16/2 cores"


@pytest.mark.parametrize(
    ("text", "cores"), [("200000 100000\n", 2), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota(tmp_path: Path, text: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert read_quota(path) == cores
    assert read_quota(tmp_path / "none") is None


def test_no_back_end_is_imported() -> None:
    code = (
        "import sys; from lnmt.runtime.capabilities import capabilities; capabilities();"
        "print([name for name in ('torch', 'onnxruntime', 'openvino', 'tensorrt', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy']"
