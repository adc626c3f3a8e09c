"""Apart from the other engines: a real compiler runs, for tens of seconds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.runtime.capabilities import capabilities
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.torch_compile import CACHE, TorchCompileEngine
from tests.tiny_bundle import tiny_bundle

reason = capabilities().why_not("torch_compile", "fp32")
needs_compiler = pytest.mark.skipif(reason is not None, reason=str(reason))
TEXTS = ["good", "a very good film , not dull at all !", "the plot was bad " * 6, "", "café price 10"]


def compiled_bundle(reference: Bundle, target: Path) -> Bundle:
    draft = {name: getattr(reference.manifest, name) for name in Draft.model_fields}
    with new_bundle(target, Draft(**{**draft, "engine": "torch_compile"})) as directory:
        for name in reference.manifest.files:
            (directory / name).write_bytes(reference.file(name).read_bytes())
    return Bundle.open(target)


@needs_compiler
def test_it_answers_as_pytorch_and_compiles_nothing_after_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, "")  # put back afterwards: the engine sets it
    reference = tiny_bundle(tmp_path / "reference")
    eager = Predictor.open(reference, threads=1)
    compiled = Predictor.open(compiled_bundle(reference, tmp_path / "b"), threads=1, cache=tmp_path / "cache")
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in ([TEXTS[0]], [TEXTS[2]], TEXTS, TEXTS * 5):
            want, have = (each.infer(each.encode(rows)) for each in (eager, compiled))
            np.testing.assert_allclose(have.logits, want.logits, atol=1e-4)
            np.testing.assert_allclose(have.pooled, want.pooled, atol=1e-4)
    [directory] = (tmp_path / "cache" / "torch_compile").iterdir()
    assert os.environ[CACHE] == str(directory)
    assert any(directory.rglob("*.cpp")) or any(directory.rglob("*.so"))
    compiled.close()
    eager.close()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    engine = TorchCompileEngine()
    engine._bundle = tiny_bundle(tmp_path / "b")
    assert engine._directory(tmp_path / "file") is None
    assert engine._directory(tmp_path / "cache") is not None
