from __future__ import annotations

import errno
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from lnmt.errors import LnmtError, Transient
from lnmt.files import clear_disk_errors
from lnmt.optimization.backends import Source
from lnmt.optimization.backends.openvino import write_openvino
from lnmt.optimization.build import Builder
from lnmt.optimization.candidate import Candidate
from lnmt.optimization.export import export_onnx
from lnmt.optimization.optimize import open_bench
from lnmt.runtime.onnxruntime import OnnxRuntimeEngine
from lnmt.types import Batch, Output
from tests.faults.full_disk import small_disk
from tests.optimization.conftest import make_project, quick, stage_io
from tests.tiny_bundle import tiny_bundle

CANDIDATE = Candidate("onnxruntime", "fp32")


def full_disk() -> None:
    with clear_disk_errors(Path("work")):
        raise OSError(errno.ENOSPC, "No space left on device")


def another_run() -> None:
    raise Transient("the port is taken")


def bad_graph() -> None:
    raise LnmtError("it has an operator that nothing runs")


@pytest.mark.parametrize(("fault", "told"), [(full_disk, "No space left"), (another_run, "port is taken")])
def test_what_is_no_fault_of_the_candidate_ends_the_search_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object, told: str
) -> None:
    make_project(tmp_path, rows=20)
    with open_bench(quick(), stage_io(tmp_path)) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(Builder, "_files", lambda *_: fault())  # type: ignore[operator]
            with pytest.raises(LnmtError, match=told):
                bench.look(CANDIDATE)
            with pytest.raises(LnmtError, match=told):
                bench.tune(CANDIDATE, [CANDIDATE.with_settings({"group_rows": 2})])
        assert bench.records.measurement(CANDIDATE) is None
        assert bench.look(CANDIDATE).failure is None


def test_what_a_candidate_cannot_do_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, rows=20)
    with open_bench(quick(), stage_io(tmp_path)) as bench:
        monkeypatch.setattr(Builder, "_files", lambda *_: bad_graph())
        assert bench.look(CANDIDATE).failure == "it has an operator that nothing runs"
        assert bench.tune(CANDIDATE, [CANDIDATE.with_settings({"group_rows": 2})]) == CANDIDATE
        found = bench.records.measurement(CANDIDATE)
        assert found is not None
        assert found.failure == "it has an operator that nothing runs"


def test_a_candidate_that_would_take_for_ever_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path, rows=20)
    infer, asked = OnnxRuntimeEngine.infer, []

    def slowly(engine: OnnxRuntimeEngine, batch: Batch) -> Output:
        asked.append(batch.input_ids.shape)
        time.sleep(0.3)
        return infer(engine, batch)

    with open_bench(quick(), stage_io(tmp_path)) as bench:
        monkeypatch.setattr(OnnxRuntimeEngine, "infer", slowly)
        told = bench.look(CANDIDATE).failure
        assert told is not None
        assert re.fullmatch(r"a text of 8 tokens takes 3\d\d ms, \d+ times what the reference takes", told)
        assert bench.records.answers("validation", CANDIDATE) is None
        assert len(asked) < 10


def test_a_full_disk_is_one_in_openvinos_words_too(tmp_path: Path) -> None:
    graph = export_onnx(Source(tiny_bundle(tmp_path / "bundle"), tmp_path)).read_bytes()
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", "64k"))
        except OSError as error:
            pytest.skip(f"cannot mount a tmpfs: {error.strerror}")
        with pytest.raises(OSError, match="No space left on device"):
            write_openvino(graph, disk)
