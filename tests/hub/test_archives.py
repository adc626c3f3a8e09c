"""Archives that try to get out, or to fill the disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.hub import archives
from lnmt.hub.archives import unpack


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for member in members:
            file.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def refusal(archive: Path, target: Path) -> LnmtError:
    target.mkdir()
    with pytest.raises(LnmtError) as caught:
        unpack(archive, target)
    assert caught.value.where == archive
    return caught.value


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tars_of_every_compression(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    plain = tar_of(tmp_path / "x", member("a", tarfile.DIRTYPE), member("a/b.txt", size=3)).read_bytes()
    (tmp_path / "x").write_bytes(pack(plain))
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "x", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == bytes(3)


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_paths_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    error = refusal(tar_of(tmp_path / "x.tar", member(name)), tmp_path / "tar")
    assert (error.what, error.value) == (
        "the archive holds a member that is refused: its path leaves the directory",
        name,
    )
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(zipfile.ZipInfo(name), b"")
    assert refusal(tmp_path / "x.zip", tmp_path / "zip").value == name
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["tar", "x.tar", "x.zip", "zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tar_of(tmp_path / "x.tar", member("good", size=1), member("evil", kind, "/etc/passwd"))
    assert refusal(archive, tmp_path / "out").value == "evil"


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("evil")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    assert refusal(tmp_path / "x.zip", tmp_path / "out").value == "evil"


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED_BYTES", 100_000)
    zeros = 5_000_000
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(zeros))
    many = tar_of(tmp_path / "plain", *(member(f"part{n}", size=zeros // 10) for n in range(10))).read_bytes()
    (tmp_path / "many.tar.gz").write_bytes(gzip.compress(many))
    # A header of 5 MB: nothing that is extracted is large.
    with tarfile.open(tmp_path / "plain", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * zeros}) as file:
        file.addfile(member("small"))
    (tmp_path / "header.tar.gz").write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))

    for name in ("x.zip", "many.tar.gz", "header.tar.gz"):
        error = refusal(tmp_path / name, tmp_path / f"out-{name}")
        assert error.what == "the archive swells beyond every measure"
        assert sum(path.stat().st_size for path in (tmp_path / f"out-{name}").iterdir()) <= 5_000_000


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    archive = tar_of(tmp_path / "x.tar", *(member(str(n)) for n in range(4)))
    assert refusal(archive, tmp_path / "out").what == "the archive swells beyond every measure"


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar"])
def test_a_damaged_archive(tmp_path: Path, name: str) -> None:
    if name == "x.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("a", "b" * 1000)
        content = bytearray((tmp_path / name).read_bytes())
        content[100] ^= 1  # inside the data: its checksum fails
    else:
        content = bytearray(tar_of(tmp_path / "plain", member("a", size=100_000)).read_bytes())
        content = bytearray(gzip.compress(content))[:-30] if name == "x.tar.gz" else bytearray(b"no archive at all")
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name, tmp_path / "out")
    assert error.what.startswith("the archive cannot be unpacked: ")
    assert error.fix == "fetch or build it again"
