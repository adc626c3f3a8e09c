from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.monitoring.distance import chance_distance, distance
from lnmt.monitoring.domain import column_auc, text_auc
from lnmt.monitoring.drift import drift_report
from lnmt.monitoring.signal import Signal, Window, read_signal
from lnmt.params import MonitorParams

PARAMS = MonitorParams(min_rows=100, window_rows=None, drift_share=0.5, distance=0.1, domain_auc=0.7, seed=7)
WINDOW = Window(model="sentiment", bundle="sha256:1", rows=300, start=1.0, end=2.0)
PAPER = "the plot moves slowly and its people hardly speak while the music carries every scene to a quiet end"
TWEET = "lol omg #wow @you http :) gonna luv dis thx 4 the yay !!! brb imho #fail"


def texts(vocabulary: str, count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(vocabulary.split(), 8)) for _ in range(count)]


def frame(count: int, seed: int, shift: float = 0.0, moved: int = 0) -> pd.DataFrame:
    """Four numeric columns, of which the first `moved` are shifted by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    columns = {f"column_{index}": rng.normal(size=count) + shift * (index < moved) for index in range(4)}
    return pd.DataFrame({**columns, "label": rng.choice(["no", "yes"], count)})


def report(current: pd.DataFrame, reference: pd.DataFrame, out: Path, **changes: Any) -> Signal:
    return drift_report(current, reference, PARAMS.model_copy(update=changes), out, window=WINDOW)


def test_the_same_distribution_has_not_drifted(tmp_path: Path) -> None:
    signal = report(frame(300, 1), frame(1000, 2), tmp_path / "out")
    assert signal.drifted is False
    assert signal.drifted_columns == []
    assert signal.drifted_share == 0.0
    assert signal.domain_auc == pytest.approx(0.5, abs=0.1)
    assert signal.reason.startswith("0 of 4 columns moved (0%; the limit is 50%); a classifier tells it")


def test_half_of_the_columns_is_drift_and_the_reports_are_written(tmp_path: Path) -> None:
    signal = report(frame(300, 1, shift=1.0, moved=2), frame(1000, 2), tmp_path / "out")
    assert signal.drifted is True
    assert sorted(signal.drifted_columns) == ["column_0", "column_1"]
    assert signal.columns[0].distance == pytest.approx(1.0, abs=0.15)
    assert signal.reason.startswith("2 of 4 columns moved (50%; the limit is 50%), furthest column_")
    assert (signal.window, signal.reference_rows) == (WINDOW, 1000)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["drift.html", "drift.json", "signal.json"]
    assert read_signal(tmp_path / "out") == signal
    # Evidently computes the same distances, and counts the same columns under the same limits.
    count, *columns = read_json(tmp_path / "out/drift.json")["metrics"]
    assert count["value"] == {"count": 2.0, "share": 0.5}
    by_name = {entry["config"]["column"]: entry["value"] for entry in columns}
    assert by_name == {entry.column: pytest.approx(entry.distance) for entry in signal.columns}
    page = (tmp_path / "out/drift.html").read_text(encoding="utf-8")
    assert "column_0" in page
    assert '<script src="http' not in page


def test_fewer_columns_than_the_share_are_none(tmp_path: Path) -> None:
    signal = report(frame(300, 1, shift=0.4, moved=1), frame(1000, 2), tmp_path / "out")
    assert (signal.drifted, signal.drifted_share, signal.drifted_columns) == (False, 0.25, ["column_0"])


def test_texts_alone_are_enough(tmp_path: Path) -> None:
    current = frame(150, 1).assign(text=texts(TWEET, 150, 1))
    reference = frame(300, 2).assign(text=texts(PAPER, 300, 2))
    signal = report(current, reference, tmp_path / "out")
    assert signal.drifted is True
    assert signal.drifted_share == 0.0
    assert signal.domain_auc is not None
    assert signal.domain_auc > 0.99
    assert signal.told_by == "texts"
    assert signal.reason.endswith("from the reference by its texts with AUC 1.00 (the limit is 0.70)")


def test_without_texts_the_columns_together_are_enough(tmp_path: Path) -> None:
    current = frame(300, 1, shift=2.0, moved=1)  # one column of four: less than the share
    signal = report(current, frame(1000, 2), tmp_path / "out")
    assert signal.drifted is True
    assert signal.drifted_share == 0.25
    assert signal.told_by == "columns"
    assert signal.domain_auc == pytest.approx(0.92, abs=0.03)  # Φ(2 / √2)


def test_no_text_reaches_the_reports(tmp_path: Path) -> None:
    current = frame(150, 1).assign(text=texts(TWEET, 150, 1))
    reference = frame(300, 2).assign(text=texts(PAPER, 300, 2))
    report(current, reference, tmp_path / "out")
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir())
    assert not [text for text in [*current["text"], *reference["text"]] if text in written]


def test_too_few_rows_give_no_verdict(tmp_path: Path) -> None:
    signal = report(frame(99, 1, shift=9.0, moved=4), frame(1000, 2), tmp_path / "out")
    assert signal.drifted is None
    assert signal.reason == "not enough rows for a verdict: 99 of the 100 that monitor.min_rows asks for"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["signal.json"]


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="share no numeric column"):
        report(frame(100, 1), pd.DataFrame({"other": [1.0], "label": ["no"]}), tmp_path / "out")


def test_distance_counts_standard_deviations() -> None:
    reference = np.array([-2.0, 2.0] * 50)
    assert distance(reference + 3, reference) == pytest.approx(1.5)
    assert distance(np.zeros(10), np.zeros(20)) == 0.0


def test_chance_moves_small_windows_further() -> None:
    reference = np.random.default_rng(0).normal(size=2000)
    small, large = chance_distance(reference, 100, seed=1), chance_distance(reference, 2000, seed=1)
    assert small > 0.15 > 0.1 > large
    assert chance_distance(reference, 100, seed=1) == small


def test_a_small_window_of_the_same_rarely_reaches_the_limit_of_chance() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=1500)
    limit = chance_distance(reference, 200, seed=1)
    found = np.array([distance(rng.normal(size=200), reference) for _ in range(300)])
    assert np.mean(found >= 0.1) > 0.1  # the fixed limit alone would alarm
    assert np.mean(found >= limit) < 0.04


def test_a_classifier_cannot_tell_texts_of_one_kind() -> None:
    found = text_auc(texts(PAPER, 200, 1), texts(PAPER, 200, 2), seed=0)
    assert found == pytest.approx(0.5, abs=0.08)


def test_texts_that_repeat_are_not_drift() -> None:
    # Each of the window's texts ten times: counted as they come, training folds would hold the test fold's.
    words = " ".join(f"word{index}" for index in range(2000))
    found = text_auc(texts(words, 60, 1) * 10, texts(words, 400, 2), seed=0)
    assert found == pytest.approx(0.5, abs=0.15)


def test_few_distinct_texts_are_not_judged() -> None:
    assert text_auc(["the same"] * 500, texts(PAPER, 200, 2), seed=0) is None


def test_a_classifier_cannot_tell_rows_of_one_kind() -> None:
    current, reference = (np.random.default_rng(seed).normal(size=(400, 6)) for seed in (1, 2))
    assert column_auc(current, reference, seed=0) == pytest.approx(0.5, abs=0.06)


def test_rows_that_repeat_are_not_drift() -> None:
    rng = np.random.default_rng(4)
    wide = [np.hstack([rng.integers(1, 10_000, (count, 1)), rng.normal(size=(count, 40))]) for count in (60, 400)]
    repeated = np.repeat(wide[0], 10, axis=0)
    repeated[:, 1:] += rng.normal(scale=0.01, size=(600, 40))  # as in batches of another length
    assert column_auc(repeated, wide[1], seed=0) == pytest.approx(0.5, abs=0.15)


def test_few_distinct_rows_are_not_judged() -> None:
    rng = np.random.default_rng(5)
    assert column_auc(np.ones((500, 3)), rng.normal(size=(200, 3)), seed=0) is None
