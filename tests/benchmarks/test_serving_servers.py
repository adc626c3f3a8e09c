"""Servers of the benchmark as processes: those whose libraries LNMT has itself, on tiny bundles."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.engine_bench.contenders import Workbench
from benchmarks.serving_bench import rounds
from benchmarks.serving_bench.check import check_answers, expect_answers, tolerance
from benchmarks.serving_bench.corpus import Corpus, make_bundles
from benchmarks.serving_bench.hosting import free_ports, hosted_peer
from benchmarks.serving_bench.load import run_wrk
from benchmarks.serving_bench.peers import peers
from benchmarks.serving_bench.projects import make_stand_in_project
from benchmarks.serving_bench.rounds import Contender, measure
from benchmarks.serving_bench.servers.classifier import Classifier
from lnmt.bundles import Bundle
from lnmt.bundles.packed import packed_champion
from lnmt.errors import LnmtError
from lnmt.optimization.backends import Source
from lnmt.params import load_params
from lnmt.plugins import load_plugins
from lnmt.progress import Progress
from lnmt.runtime import ENGINES
from lnmt.runtime.capabilities import capabilities
from lnmt.runtime.predictor import Predictor
from tests.tiny_bundle import WORDS, tiny_bundle

TEXTS = [" ".join(WORDS[place : place + 1 + place % 7]) for place in range(20)] + ["naïve, ‘good’ film", "x"]
QUIET = Progress(show=False)


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    reference = tiny_bundle(root / "reference")
    (root / "work").mkdir()
    tokenizer = Predictor.open(reference, threads=1).tokenizer
    calibration = [tokenizer.pad(tokenizer.encode(TEXTS))]
    bench = Workbench(Source(reference, root / "work", progress=QUIET), capabilities(), lambda: calibration, QUIET, 2)
    plain, tuned = make_bundles(bench)
    return Corpus(TEXTS, reference, plain, tuned)


def int8(corpus: Corpus, engine: str) -> Bundle:
    return corpus.plain[f"{engine}-fp32+static_int8"]


def test_every_setting_has_the_same_files(corpus: Corpus) -> None:
    assert {bundle.manifest.engine for bundle in corpus.plain.values()} == {"openvino", "onnxruntime"}
    for name, bundle in corpus.plain.items():
        tuned = [one for setting, one in corpus.tuned.items() if setting.split(" ")[0] == name]
        assert len(tuned) > 1
        assert {one.manifest.files["tokenizer.json"] for one in tuned} == {bundle.manifest.files["tokenizer.json"]}
        assert all(one.manifest.files == bundle.manifest.files for one in tuned)


def test_bodies_are_a_line_of_json_each(corpus: Corpus, tmp_path: Path) -> None:
    lines = corpus.bodies(peers()["bentoml"].face, tmp_path / "bodies").read_text(encoding="ascii").splitlines()
    assert len(lines) == len(TEXTS)
    assert lines[0] == '{"texts":["the"]}'


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_peers_get_lnmts_own_answers(
    corpus: Corpus, engine: str, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = int8(corpus, engine)
    monkeypatch.setenv("BENCH_BUNDLE", str(bundle.path))
    found = Classifier(threads=2, streams=streams)(TEXTS)
    expected = expect_answers(bundle, TEXTS, threads=2)
    assert len({label for label, _ in expected}) > 1
    assert [answer["label"] for answer in found] == [label for label, _ in expected]
    scores = [[answer["scores"][name] for name in bundle.manifest.labels] for answer in found]
    np.testing.assert_allclose(scores, [list(wanted.values()) for _, wanted in expected], atol=tolerance(bundle))


def test_a_server_is_checked_and_leaves_nothing_behind(corpus: Corpus, tmp_path: Path) -> None:
    peer, bundle = peers()["fastapi-threads"], int8(corpus, "openvino")
    expected, before = expect_answers(bundle, TEXTS, threads=1), children()
    with hosted_peer(peer, Path(sys.executable), bundle, 1, tmp_path / "run") as server:
        assert children() > before
        assert check_answers(server, TEXTS, expected, tolerance(bundle)) <= tolerance(bundle)
        with pytest.raises(LnmtError, match="are not the model's"):
            check_answers(server, TEXTS, expected[1:] + expected[:1], tolerance(bundle))
    assert children() == before


def test_eager_answers_as_the_weights_do(corpus: Corpus, tmp_path: Path) -> None:
    expected = expect_answers(corpus.reference, TEXTS, threads=1)
    with hosted_peer(peers()["eager"], Path(sys.executable), corpus.reference, 1, tmp_path / "run") as server:
        assert check_answers(server, TEXTS, expected, tolerance(corpus.reference)) < 1e-4


def test_a_server_that_does_not_start_shows_the_end_of_its_log(corpus: Corpus, tmp_path: Path) -> None:
    absent = replace(corpus.reference, path=tmp_path / "nowhere")
    with (
        pytest.raises(LnmtError, match="the server ended") as raised,
        hosted_peer(peers()["fastapi"], Path(sys.executable), absent, 1, tmp_path / "run"),
    ):
        pass
    assert "bundle.json" in "".join(raised.value.__notes__)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_round_measures_each_concurrency(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "WARM_UP_S", 1)
    peer, bundle, wrk = peers()["fastapi"], int8(corpus, "openvino"), Path(str(shutil.which("wrk")))
    host = partial(hosted_peer, peer, Path(sys.executable), bundle, 1, tmp_path / "run")
    bodies = corpus.bodies(peer.face, tmp_path / "bodies")
    one = Contender(peer.name, host, bodies, expect_answers(bundle, TEXTS, threads=1), tolerance(bundle))
    runs, difference = measure(one, TEXTS, wrk, 1, [1, 3], 1)
    assert [(run.server, run.round, run.concurrency) for run in runs] == [("fastapi", 1, 1), ("fastapi", 1, 3)]
    assert difference is not None
    assert difference <= tolerance(bundle)
    for run in runs:
        assert run.load.requests > 0
        assert 0 < run.load.p50_ms <= run.load.p99_ms <= run.load.max_ms
        assert run.cpu_ms > 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_refused_request_is_not_measured(corpus: Corpus, tmp_path: Path) -> None:
    peer = peers()["fastapi"]
    (tmp_path / "bodies").write_text('{"text": "good"}\n{"txt": "good"}\n', encoding="ascii")
    with hosted_peer(peer, Path(sys.executable), int8(corpus, "openvino"), 1, tmp_path / "run") as server:
        wrk = Path(str(shutil.which("wrk")))
        with pytest.raises(LnmtError, match="status"):
            run_wrk(wrk, server.url, tmp_path / "bodies", start=0, concurrency=1, seconds=1)


def test_the_stand_in_answers_in_the_engines_place(
    corpus: Corpus, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = next(one for name, one in corpus.tuned.items() if name.startswith("openvino"))
    project = make_stand_in_project(tmp_path / "project", repository / "params.yaml", bundle, (0.0, 0.0), width=32)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    monkeypatch.setattr(ENGINES, "_entries", dict(ENGINES._entries))
    params = load_params(project / "params.yaml")
    load_plugins(params.plugins, project)
    champion = packed_champion(project)
    assert champion is not None
    assert champion.manifest.settings == bundle.manifest.settings  # it is cut into batches as the real one is
    answers = Predictor.open(champion).predict(TEXTS)
    assert len(answers) == len(TEXTS)
    assert set(answers[0].scores) == set(bundle.manifest.labels)
    assert answers[0].pooled.shape == (32,)


def test_ports_differ() -> None:
    assert len(set(free_ports(6))) == 6
