from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.models.classifier import EncoderClassifier
from lnmt.optimization.backends import Source
from lnmt.optimization.export import export_onnx
from lnmt.optimization.export_errors import explain_export
from tests.tiny_bundle import tiny_bundle

Change = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tiny_bundle(tmp_path / "bundle"), tmp_path / "work")


def spoil(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """The classifier's forward, followed by `change` of (logits, pooled, attention_mask)."""
    whole = EncoderClassifier.forward

    def forward(self: EncoderClassifier, inputs: Any) -> Any:
        logits, pooled = whole(self, inputs)
        return change(logits, pooled, inputs["attention_mask"])

    monkeypatch.setattr(EncoderClassifier, "forward", forward)


def test_an_operator_without_a_form_is_named(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda logits, pooled, mask: (torch.special.bessel_j0(logits), pooled))
    for _ in range(2):  # the second time from what was noted
        with pytest.raises(LnmtError, match=r"operator prims\.bessel_j0 has no form in ONNX") as caught:
            export_onnx(source)
        assert caught.value.fix is not None
        assert "write what prims.bessel_j0 does with other operators" in caught.value.fix
    assert [path.name for path in source.work.iterdir()] == ["model.onnx.failed"]


def test_a_branch_that_data_decides_is_named_with_its_line(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(logits: Tensor, pooled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if mask.sum() > 3:
            return logits * 2, pooled
        return logits, pooled

    spoil(monkeypatch, change)
    with pytest.raises(LnmtError, match=r"test_export\.py:\d+ in change: if mask\.sum\(\) > 3") as caught:
        export_onnx(source)
    assert "decides a branch or a size" in caught.value.what
    assert "torch.where" in str(caught.value.fix)


def test_what_the_models_own_code_raises_is_told(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(logits: Tensor, pooled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        raise KeyError("no such layer")

    spoil(monkeypatch, change)
    with pytest.raises(LnmtError, match=r"ONNX export failed: KeyError: 'no such layer', at test_export\.py:"):
        export_onnx(source)


def test_a_graph_that_answers_otherwise_is_found_out(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter takes them for constants and says nothing."""

    def change(logits: Tensor, pooled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return logits + float(mask.shape[1] ** 2), pooled  # a shape that became a number of the example's

    def forward(logits: Tensor, pooled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_exporting():
            return logits, pooled
        return change(logits, pooled, mask)

    spoil(monkeypatch, forward)
    with pytest.raises(LnmtError, match="the graph gives other logits than the model"):
        export_onnx(source)
    assert not (source.work / "model.onnx").exists()


def test_an_error_that_tells_nothing_is_given_as_it_is() -> None:
    found = explain_export(RuntimeError("no symbolic shape\nlong story"))
    assert found.what == "ONNX export failed: RuntimeError: no symbolic shape"
    assert "torch.export" in found.fix
