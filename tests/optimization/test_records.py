from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lnmt.optimization.answers import Answers
from lnmt.optimization.candidate import Candidate, Figure, Latency, Measurement, Parity
from lnmt.optimization.records import Records
from lnmt.params import Plugin
from lnmt.stats.bootstrap import Interval

CANDIDATE = Candidate("openvino", "bf16", (Plugin(name="static_int8", calibration="entropy"),), {"group_rows": 8})
FIGURE = Figure(1.25, Interval(1.0, 1.5), 3.0, Interval(2.5, 3.5))
FOUND = Measurement(
    CANDIDATE,
    megabytes=22.5,
    built_s=3.5,
    decided={"static_int8": {"kept": ["head"]}},
    parity=Parity("labels", 10, 1, 0.1, "macro_f1", 0.7, 0.001, 0.25),
    latency={1: Latency(8, FIGURE, FIGURE, FIGURE)},
)
ANSWERS = Answers(np.array([[0.5, -0.25]], dtype=np.float32), np.array([[0]]), np.array([[1.0, 0.0]], dtype=np.float64))


def test_what_was_kept_comes_back_after_a_restart(tmp_path: Path) -> None:
    first = Records(tmp_path / "search", {"machine": "a"})
    assert first.measurement(CANDIDATE) is None
    assert first.answers("validation", CANDIDATE) is None
    first.keep_measurement(FOUND)
    first.keep_answers("validation", CANDIDATE, ANSWERS)
    again = Records(tmp_path / "search", {"machine": "a"})
    assert again.measurement(CANDIDATE) == FOUND
    assert again.measurement(CANDIDATE.with_settings({})) is None
    answers = again.answers("validation", CANDIDATE)
    assert answers is not None
    for name in ("numbers", "choices", "scored"):
        np.testing.assert_array_equal(getattr(answers, name), getattr(ANSWERS, name))
        assert getattr(answers, name).dtype == getattr(ANSWERS, name).dtype
    assert again.answers("test", CANDIDATE) is None


def test_a_failure_is_a_finding(tmp_path: Path) -> None:
    records = Records(tmp_path, {})
    failed = Measurement(CANDIDATE, failure="ONNX export failed")
    assert records.keep_measurement(failed) is failed
    assert records.measurement(CANDIDATE) == failed


def test_another_setting_begins_anew(tmp_path: Path) -> None:
    Records(tmp_path / "search", {"onnxruntime": "1"}).keep_measurement(FOUND)
    other = Records(tmp_path / "search", {"onnxruntime": "2"})
    assert other.measurement(CANDIDATE) is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", None])
def test_damaged_answers_are_asked_for_again(tmp_path: Path, damage: bytes | None) -> None:
    records = Records(tmp_path, {})
    records.keep_answers("test", CANDIDATE, ANSWERS)
    [path] = tmp_path.glob("answers-test/*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert records.answers("test", CANDIDATE) is None
