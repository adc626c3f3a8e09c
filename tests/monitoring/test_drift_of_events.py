"""From prediction events, as serving writes them, to a signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.monitoring.events import PredictionEvent
from lnmt.monitoring.monitor import current_frame, monitor, select
from lnmt.monitoring.signal import read_signal
from lnmt.params import MonitorParams, Plugin
from lnmt.runtime.predictor import Predictor
from lnmt.runtime.profile import DESCRIPTORS, reference_profile
from lnmt.stats.projection import project
from tests.tiny_bundle import WORDS, tiny_bundle

PARAMS = MonitorParams(min_rows=60, window_rows=None, drift_share=0.5, distance=0.1, domain_auc=0.7, seed=7)
SHOUTED = [f"{word.upper()}!!! 123 #{word} :-)" for word in ("wow", "yay", "omg", "lol", "hey", "zap", "pow")]


@dataclass(frozen=True)
class Case:
    bundle: Bundle
    predictor: Predictor


def usual(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(count)]


def unusual(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(SHOUTED, rng.integers(1, 4))) for _ in range(count)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("monitor")
    plain = tiny_bundle(root / "plain", processors=[Plugin(name="unescape")])
    profile = reference_profile(Predictor.open(plain), usual(300, 1), seed=0)
    with new_bundle(root / "bundle", Draft(**plain.manifest.model_dump(exclude={"files"}))) as directory:
        for name in plain.manifest.files:
            (directory / name).write_bytes(plain.file(name).read_bytes())
        pq.write_table(profile, directory / "profile.parquet")
    bundle = Bundle.open(root / "bundle")
    return Case(bundle, Predictor.open(bundle))


def serve(case: Case, texts: Sequence[str], *, keep_text: bool = True) -> list[PredictionEvent]:
    """The events that serving writes for these texts, one a second."""
    return [
        PredictionEvent(
            id=f"{index:05}",
            time=1000.0 + index,
            model="sentiment",
            generation=1,
            arm="champion",
            bundle=case.bundle.digest,
            unit=None,
            cached=False,
            batch_rows=1,
            row=0,
            tokens=answer.tokens,
            padded_tokens=answer.tokens,
            characters=len(text),
            label=answer.label,
            scores=answer.scores,
            pooled=project(answer.pooled).tolist(),
            latency_ms=1.0,
            error=None,
            text=text if keep_text else None,
        )
        for index, (text, answer) in enumerate(zip(texts, case.predictor.predict(texts), strict=True))
    ]


def test_usual_traffic_has_not_drifted(case: Case, tmp_path: Path) -> None:
    signal = monitor(serve(case, usual(120, 2)), case.bundle, PARAMS, tmp_path / "out")
    assert signal.drifted is False
    assert signal.told_by == "texts"
    assert (signal.window.model, signal.window.bundle) == ("sentiment", case.bundle.digest)
    assert (signal.window.rows, signal.window.start, signal.window.end) == (120, 1000.0, 1119.0)
    assert signal.reference_rows == 300
    assert read_signal(tmp_path / "out") == signal


@pytest.mark.parametrize("keep_text", [True, False])
def test_unusual_traffic_has_with_and_without_its_texts(case: Case, tmp_path: Path, keep_text: bool) -> None:
    signal = monitor(serve(case, unusual(120), keep_text=keep_text), case.bundle, PARAMS, tmp_path / "out")
    assert signal.drifted is True
    assert signal.told_by == ("texts" if keep_text else "columns")
    assert "characters" in signal.drifted_columns


def test_the_newest_answers_of_this_bundle_are_the_window(case: Case) -> None:
    events = serve(case, usual(10, 2))
    other = replace(events[8], bundle="sha256:other")
    failed = replace(events[9], error="engine failed", label=None, scores={}, pooled=[])
    mixed = [*reversed(events[:8]), other, failed]
    assert [event.id for event in select(mixed, case.bundle.digest, 3)] == ["00005", "00006", "00007"]
    assert len(select(mixed, case.bundle.digest, None)) == 8


def test_the_frame_is_the_profile_of_the_same_texts(case: Case) -> None:
    texts = ["good &amp; bad", "the film was dull", "awful"]
    frame = current_frame(serve(case, texts), case.bundle)
    profile = reference_profile(case.predictor, texts, seed=0).to_pandas()
    assert frame.columns.tolist() == profile.columns.tolist()
    assert frame["text"].tolist() == ["good & bad", "the film was dull", "awful"]
    for name in frame.columns.drop(["text", "label"]):
        assert frame[name].tolist() == pytest.approx(profile[name].tolist(), abs=1e-5)


def test_one_row_without_its_text_leaves_out_what_needs_texts(case: Case) -> None:
    events = serve(case, ["good &amp; bad", "dull"])
    frame = current_frame([events[0], replace(events[1], text=None)], case.bundle)
    assert frame["characters"].tolist() == [14, 4]
    assert not ({"text", *DESCRIPTORS} - {"characters"}) & set(frame.columns)


def test_no_traffic_gives_no_verdict(case: Case, tmp_path: Path) -> None:
    signal = monitor([], case.bundle, PARAMS, tmp_path / "out")
    assert signal.drifted is None
    assert (signal.window.rows, signal.window.model, signal.window.start) == (0, None, None)
    assert signal.reason == "not enough rows for a verdict: 0 of the 60 that monitor.min_rows asks for"
