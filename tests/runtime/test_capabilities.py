from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lnmt.runtime import capabilities as module
from lnmt.runtime.capabilities import NO_BF16, Capabilities, capabilities, engines_for, read_cpu

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16
processor\t: 1
model name\t: Some CPU @ 2.0GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16
"""
VERSIONS = {"torch": "2", "onnxruntime": "1", "openvino": "3"}


def test_flags_are_read_strongest_first(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    flags = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    assert read_cpu(path) == ("Some CPU @ 2.0GHz", flags)
    path.write_text("Features\t: fp asimd bf16\n")
    assert read_cpu(path) == ("", ("bf16", "asimd"))
    assert read_cpu(tmp_path / "none") == ("", ())


def test_bf16_needs_the_cpu() -> None:
    with_it, without = engines_for(("avx512_bf16",), VERSIONS), engines_for(("avx512f", "avx2"), VERSIONS)
    assert (with_it["openvino"]["bf16"], with_it["torch"]["bf16"]) == (None, None)
    assert (without["openvino"]["bf16"], without["torch"]["bf16"]) == (NO_BF16, NO_BF16)
    assert without["openvino"]["fp32"] is None
    assert with_it["onnxruntime"] == {"fp32": None, "bf16": "ONNX Runtime has no bf16 kernels on CPUs"}


def test_a_library_that_is_not_there_says_how_to_get_it() -> None:
    found = engines_for(("avx512_bf16",), {**VERSIONS, "openvino": None})
    assert set(found["openvino"].values()) == {"openvino is not installed: pip install openvino"}


def test_this_machine() -> None:
    found = capabilities()
    assert found.libraries["torch"] is not None
    assert found.engines["torch"]["fp32"] is None
    assert found.cores >= 1
    assert found.hardware.startswith(f"{found.machine}/")
    assert found.hardware.endswith(f"/{found.cores} cores")


def test_the_hardware_class() -> None:
    found = Capabilities("x86_64", "c", 2, ("avx512_bf16", "avx2"), {}, {"torch": {"fp32": "no"}})
    assert found.hardware == "x86_64/avx512_bf16/2 cores"
    assert found.why_not("torch", "fp32") == "no"
    assert found.why_not("someones_plugin", "fp32") is None


@pytest.mark.parametrize(
    ("text", "cores"), [("200000 100000\n", 2), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota(tmp_path: Path, text: str, cores: int | None) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert module._quota(path) == cores
    assert module._quota(tmp_path / "none") is None


def test_no_back_end_is_imported() -> None:
    code = (
        "import sys; from lnmt.runtime.capabilities import capabilities; capabilities();"
        "print([name for name in ('torch', 'onnxruntime', 'openvino', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy']"
