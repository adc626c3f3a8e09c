from __future__ import annotations

from pathlib import Path

from lnmt.tail import Tail


def test_tail_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_text("one\ntw")
    assert tail.lines() == ["one"]
    path.write_text("one\ntwo\n")
    assert tail.lines() == ["two"]
    assert tail.lines() == []


def test_tail_starts_again_where_the_file_was_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("one\ntwo\n")
    tail = Tail(path)
    tail.lines()
    path.write_text("new\n")
    assert tail.lines() == ["new"]


def test_records_pass_over_a_line_that_a_crash_cut(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_text('{"done": 1}\n{"done": \n[1]\n{"done": 2}\n')
    assert Tail(path).records() == [{"done": 1}, {"done": 2}]
