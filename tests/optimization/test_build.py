from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lnmt.bundles import Bundle
from lnmt.files import file_digests
from lnmt.optimization.backends import tensorrt as module
from lnmt.optimization.backends.tensorrt_rules import problems
from lnmt.optimization.build import Builder
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.workshop import Workshop
from lnmt.params import Plugin
from lnmt.progress import Progress
from lnmt.runtime.trt_plan import GRAPH, Key, Machine, Profile, make_profiles, read_plan
from tests.optimization.weights_kit import workshop
from tests.tiny_bundle import tiny_bundle

MACHINE = Machine("11.4.0.106", "NVIDIA L4", (8, 9))
INT8 = Plugin.model_validate({"name": "static_int8", "keep_float": "none"})


@dataclass
class Site:
    """Builders of one work directory on a machine whose TensorRT only notes what it is to build."""

    bundle: Bundle
    work: Path
    built: list[tuple[Sequence[Profile], Path | None]] = field(default_factory=list)
    asked: int = 0  # how often a compression was given what it may use

    def builder(self) -> Builder:
        return Builder(self.bundle, self.work / "search", self._shop, Progress(show=False), self.work / "engines")

    def build_plan(
        self, graph: Path, profiles: Sequence[Profile], *, timing: Path | None, report: Callable[..., bool]
    ) -> bytes:
        assert problems(graph) == []
        assert report("tactics", 1, 2)
        self.built.append((profiles, timing))
        return b"a plan"

    def _shop(self) -> Workshop:
        self.asked += 1
        return workshop(self.bundle, self.work)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    found = Site(tiny_bundle(tmp_path / "bundle"), tmp_path)
    monkeypatch.setattr(module, "why_not_tensorrt", lambda precision: None)
    monkeypatch.setattr(module, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(module, "build_plan", found.build_plan)
    return found


@pytest.mark.parametrize("recipe", [(), (INT8,)])
def test_tensorrt_builds_for_each_setting_and_the_bundle_carries_it(site: Site, recipe: tuple[Plugin, ...]) -> None:
    plain = Candidate("tensorrt", "fp16", recipe)
    builder = site.builder()
    bundles = [builder.build(one).bundle for one in (plain, plain.with_settings({"group_rows": 8}))]
    profiles = [make_profiles(64, 8), make_profiles(64, 8, 8)]
    assert site.built == [(one, site.work / "engines/tensorrt/timing.cache") for one in profiles]
    for bundle, shapes in zip(bundles, profiles, strict=True):
        assert read_plan(bundle.path, Key(bundle.manifest.files[GRAPH], MACHINE, shapes)) == b"a plan"
    assert bundles[0].manifest.files[GRAPH] == bundles[1].manifest.files[GRAPH]
    assert site.asked == len(recipe), "what is compressed once serves every engine that is built from it"


def test_a_restart_builds_nothing_again(site: Site) -> None:
    candidate = Candidate("tensorrt", "fp32", (INT8,))
    first = site.builder().build(candidate)
    again = site.builder().build(candidate)
    assert (len(site.built), site.asked) == (1, 1)
    assert (again.bundle.digest, again.decided, again.seconds) == (first.bundle.digest, first.decided, first.seconds)


def test_other_engines_files_serve_every_setting_and_precision(site: Site) -> None:
    builder, plain = site.builder(), Candidate("openvino", "fp32", (INT8,))
    others = [plain.with_settings({"group_rows": 8}), Candidate("openvino", "bf16", (INT8,))]
    first, *rest = (builder.build(one).bundle for one in (plain, *others))
    assert site.asked == 1
    for bundle in rest:
        assert bundle.digest != first.digest
        assert bundle.manifest.files == first.manifest.files
    assert sorted(path.name for path in (site.work / "search/files").iterdir()) == [f"openvino+{recipe(plain)}"]
    assert set(file_digests(first.path)) == {"bundle.json", "model.bin", "model.xml", "tokenizer.json"}


def recipe(candidate: Candidate) -> str:
    return candidate.name.partition("+")[2]
