import os
import signal
import time
from pathlib import Path

import pytest

from lnmt.files import canonical_json, directory_digest, file_digests, new_directory, write_bytes, write_json


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_write_replaces_whole_files_and_leaves_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_digest_sees_names_and_contents(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "x", b"1")
    write_bytes(tmp_path / "b" / "y", b"1")
    write_bytes(tmp_path / "c" / "x", b"2")
    assert len({directory_digest(tmp_path / name) for name in "abc"}) == 3
    assert list(file_digests(tmp_path)) == ["a/x", "b/y", "c/x"]


def test_a_failed_new_directory_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with new_directory(target) as directory:
        (directory / "a").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), new_directory(target) as directory:
        (directory / "a").write_text("new")
        raise RuntimeError("stop")
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_killed_while_writing_a_file_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = {b"a" * 70_000, b"b" * 90_000}
    write_bytes(path, b"a" * 70_000)
    for kill in range(20):
        child = os.fork()
        if child == 0:
            while True:
                for content in contents:
                    write_bytes(path, content)
        time.sleep(0.005 + kill * 0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in contents
