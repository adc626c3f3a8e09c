from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.monitoring.signal import ColumnDrift, Signal, Window, read_signal, write_signal

WINDOW = Window(model="sentiment", bundle="sha256:1", rows=300, start=10.0, end=20.5)
COLUMNS = [ColumnDrift("tokens", 0.5, 0.1, drifted=True), ColumnDrift("words", 0.01, 0.1, drifted=False)]


@pytest.mark.parametrize(
    "signal",
    [
        Signal(True, "the texts differ", WINDOW, 2000, 0.5, COLUMNS, 0.93, "texts"),
        Signal(None, "not enough rows", Window(None, "sha256:1", 0, None, None), 2000, None, [], None, None),
    ],
)
def test_a_signal_is_read_as_it_was_written(signal: Signal, tmp_path: Path) -> None:
    write_signal(tmp_path, signal)
    assert read_signal(tmp_path) == signal


def test_the_file_names_the_drifted_columns(tmp_path: Path) -> None:
    write_signal(tmp_path, Signal(True, "the texts differ", WINDOW, 2000, 0.5, COLUMNS, None, None))
    assert read_json(tmp_path / "signal.json")["drifted_columns"] == ["tokens"]


def test_no_signal_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="no drift signal here") as caught:
        read_signal(tmp_path)
    assert caught.value.fix == "look at the traffic first: lnmt monitor"
