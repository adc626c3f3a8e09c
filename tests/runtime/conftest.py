from __future__ import annotations

from collections.abc import Iterator

import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.optimization.backends import BACKENDS, Source
from lnmt.optimization.candidate import Candidate
from lnmt.runtime.predictor import Predictor
from lnmt.types import Precision
from tests.tiny_bundle import tiny_bundle

ENGINES: list[tuple[str, Precision]] = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("torchscript", "fp32"),
    ("torchscript", "bf16"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Precision], Bundle]:
    """One tiny bundle for each engine and precision, of the same weights."""
    root = tmp_path_factory.mktemp("bundles")
    reference = tiny_bundle(root / "reference")
    source = Source(reference, root / "work")
    found = {}
    for engine, precision in ENGINES:
        candidate = Candidate(engine, precision)
        draft = {name: getattr(reference.manifest, name) for name in Draft.model_fields}
        with new_bundle(root / candidate.name, Draft(**{**draft, "engine": engine, "precision": precision})) as path:
            (path / "tokenizer.json").write_bytes(reference.file("tokenizer.json").read_bytes())
            BACKENDS.get(engine)().build(candidate, source, path)
        found[engine, precision] = Bundle.open(root / candidate.name)
    return found


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """The PyTorch engine on a tiny bundle."""
    opened = Predictor.open(tiny_bundle(tmp_path_factory.mktemp("torch") / "bundle"), threads=1)
    yield opened
    opened.close()
