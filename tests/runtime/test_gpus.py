from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.runtime.gpus import GpuFacts, list_gpus


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script in place of nvidia-smi, the first in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "nvidia-smi"


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_every_gpu_is_listed(smi: Path) -> None:
    script(
        smi,
        'test "$1" = --query-gpu=name,memory.total,compute_cap,driver_version || exit 9\n'
        'test "$2" = --format=csv,noheader,nounits || exit 9\n'
        "echo 'NVIDIA H100 80GB HBM3, 81559, 9.0, 580.65.06'; echo 'NVIDIA L4, 23034, 8.9, 580.65.06'",
    )
    assert list_gpus() == (
        GpuFacts("NVIDIA H100 80GB HBM3", 79.6, "9.0", "580.65.06"),
        GpuFacts("NVIDIA L4", 22.5, "8.9", "580.65.06"),
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", "nvidia-smi says: NVIDIA-SMI has failed: no driver"),
        ("exit 3", "nvidia-smi says: exit status 3"),
        ("true", "shows no GPU"),
        ("echo 'No devices were found'", "not understood"),
        ("echo 'GPU, [N/A], 9.0, 1'", "not understood"),
        ("printf '\\377\\376, x'", "not understood"),
    ],
)
def test_what_goes_wrong_is_told(smi: Path, body: str, words: str) -> None:
    script(smi, body)
    found = list_gpus()
    assert isinstance(found, str)
    assert words in found


def test_a_driver_that_hangs_is_left(smi: Path) -> None:
    script(smi, "exec sleep 60")
    assert list_gpus(patience_s=0.2) == "nvidia-smi did not answer in 0.2 s: restart the driver or the machine"


def test_a_program_that_does_not_run_is_told(smi: Path) -> None:
    smi.write_bytes(b"\x7fELF junk")
    smi.chmod(0o755)
    found = list_gpus()
    assert isinstance(found, str)
    assert found.startswith("nvidia-smi cannot be run: ")


def test_a_machine_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus() == "no NVIDIA driver: nvidia-smi is not in PATH"
