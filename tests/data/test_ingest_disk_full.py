"""A disk that fills up while `ingest` writes."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.files import directory_digest
from tests.data.sources_kit import files_entry, ingest_section, run_ingest, write_params


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user cannot mount a small file system: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_disk_full_keeps_the_earlier_table(small_disk: Path, tmp_path: Path) -> None:
    letters = random.Random(7)
    rows = "".join(f"{letters.randbytes(500).hex()},x\n" for _ in range(4000))  # 2 MB that do not compress
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    entry = files_entry("rows.csv", base=f"local:{tmp_path}")
    write_params(small_disk, ingest_section(entry, limit=10))
    run_ingest(small_disk)
    before = directory_digest(small_disk / "data" / "raw")
    write_params(small_disk, ingest_section(entry))

    with pytest.raises(LnmtError) as caught:
        run_ingest(small_disk)

    assert caught.value.what == "cannot write: No space left on device"
    assert (caught.value.where, caught.value.exit_code) == (small_disk, 1)
    assert directory_digest(small_disk / "data" / "raw") == before
    assert sorted(path.name for path in (small_disk / "data").iterdir()) == ["incoming", "raw"]
