"""`pypi:` references, against a real index on a loopback port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lnmt.errors import DigestMismatch, LnmtError, Transient
from tests.hub.conftest import Hub, Index, config_of, digest_of, sdist, wheel

WHEEL, SDIST = "tiny-1.0-py3-none-any.whl", "tiny-1.0.tar.gz"


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_the_digest_chooses_the_file(index: Index, hub: Hub) -> None:
    wheel_directory = hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert names(wheel_directory) == ["tiny-1.0.dist-info/METADATA", "tiny/model.bin"]
    sdist_directory = hub.fetch("pypi:tiny==1.0", digest_of(sdist()))
    assert sdist_directory.name == "tiny-1.0"
    assert names(sdist_directory) == ["data/rows.csv", "setup.py"]
    assert index.downloads == [None, None]
    assert list((hub.cache / "hub" / "downloads").iterdir()) == []


def test_the_digest_chooses_where_the_index_tells_none(index: Index, hub: Hub) -> None:
    index.tells_digests = False
    del index.files[WHEEL]
    assert names(hub.fetch("pypi:tiny==1.0", digest_of(sdist()))) == ["data/rows.csv", "setup.py"]


def test_without_a_digest_the_wheel_comes_and_its_digest_is_told(
    index: Index, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(hub.fetch("pypi:tiny==1.0"))[1] == "tiny/model.bin"
    assert f"found {digest_of(wheel())}: put it into params.yaml" in capsys.readouterr().err
    assert names(hub.fetch("pypi:tiny==1.0", kind="sdist"))[1] == "setup.py"


def test_progress_is_in_bytes(index: Index, hub: Hub) -> None:
    hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    last = json.loads((hub.root / "progress.jsonl").read_text().splitlines()[-1])
    size = len(wheel())
    assert last["what"] == f"download {WHEEL}"
    assert (last["done"], last["total"], last["unit"]) == (size, size, "B")


def test_what_is_cached_is_not_asked_for_again(index: Index, hub: Hub) -> None:
    first = hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert hub.fetch("pypi:tiny==1.0", digest_of(wheel()), offline=True) == first
    assert index.downloads == [None]


@pytest.mark.parametrize("damage", ["change", "cut", "remove", "add"])
def test_a_damaged_cache_is_found_and_mended(index: Index, hub: Hub, damage: str) -> None:
    directory = hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    model = directory / "tiny" / "model.bin"
    content = model.read_bytes()
    if damage == "change":
        model.write_bytes(b"?" + content[1:])
    elif damage == "cut":
        model.write_bytes(content[:-1])
    elif damage == "remove":
        model.unlink()
    else:
        (directory / "tiny" / "more.py").write_text("evil")

    with pytest.raises(DigestMismatch) as caught:
        hub.fetch("pypi:tiny==1.0", digest_of(wheel()), offline=True)
    assert caught.value.fix == "go online and run this again"

    again = hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert (again / "tiny" / "model.bin").read_bytes() == content
    assert names(again) == ["tiny-1.0.dist-info/METADATA", "tiny/model.bin"]


def test_a_broken_line_is_gone_on_with(index: Index, hub: Hub) -> None:
    index.cuts = [300_000, 400_000]
    hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert index.downloads == [None, "bytes=300000-", "bytes=700000-"]


def test_a_killed_download_is_gone_on_with(index: Index, hub: Hub) -> None:
    index.cuts = [1000] * 4
    with pytest.raises(Transient, match="the download failed 4 times") as caught:
        hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert "goes on where it stopped" in (caught.value.fix or "")
    index.downloads.clear()
    hub.fetch("pypi:tiny==1.0", digest_of(wheel()))
    assert index.downloads == ["bytes=4000-"]


@pytest.mark.parametrize("size", [10, len(wheel()), len(wheel()) + 5])
def test_a_partial_file_that_does_not_fit_is_started_again(index: Index, hub: Hub, size: int) -> None:
    key = digest_of(wheel()).removeprefix("sha256:")
    partial = hub.cache / "hub" / "downloads" / key / f"{WHEEL}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * size)
    assert names(hub.fetch("pypi:tiny==1.0", digest_of(wheel())))[1] == "tiny/model.bin"
    assert index.downloads == [f"bytes={size}-", None]


def test_the_index_has_other_files_only(index: Index, hub: Hub) -> None:
    with pytest.raises(DigestMismatch) as caught:
        hub.fetch("pypi:tiny==1.0", "sha256:" + "0" * 64)
    assert caught.value.allowed == "sha256:" + "0" * 64
    assert f"{WHEEL} {digest_of(wheel())}" in str(caught.value.value)
    assert index.downloads == []


def test_bytes_that_are_not_the_promised_ones(index: Index, hub: Hub) -> None:
    promised = digest_of(wheel())
    index.promised[WHEEL] = promised
    index.files[WHEEL] = wheel()[:-1] + b"?"
    with pytest.raises(DigestMismatch) as caught:
        hub.fetch("pypi:tiny==1.0", promised)
    assert (caught.value.allowed, caught.value.value) == (promised, digest_of(index.files[WHEEL]))
    assert names(hub.cache / "hub") == [f"{promised.removeprefix('sha256:')}.lock"]


@pytest.mark.parametrize("reference", ["tiny==2.0", "huge==1.0"])
def test_no_such_package_or_version(index: Index, hub: Hub, reference: str) -> None:
    with pytest.raises(LnmtError, match="the package index has no file of this version") as caught:
        hub.fetch(f"pypi:{reference}")
    assert caught.value.exit_code == 1
    assert caught.value.value == f"pypi:{reference}"


@pytest.mark.parametrize("reference", ["tiny", "tiny>=1.0", "tiny==1.*", "tiny==", "==1.0", "ti ny==1.0"])
def test_a_version_must_be_exact(hub: Hub, reference: str) -> None:
    with pytest.raises(LnmtError) as caught:
        hub.fetch(f"pypi:{reference}")
    assert caught.value.allowed == "pypi:NAME==VERSION"


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://user:hunter2@127.0.0.1:{held.getsockname()[1]}/simple/"
        monkeypatch.setattr("lnmt.hub.pypi.read_pip_config", lambda: config_of(url))
        with pytest.raises(Transient, match="no package index answers") as caught:
            hub.fetch("pypi:tiny==1.0")
    assert caught.value.exit_code == 75
    assert "local:PATH" in (caught.value.fix or "")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_index_may_answer_later(index: Index, hub: Hub, status: int) -> None:
    index.status = status
    with pytest.raises(Transient, match="no package index answers"):
        hub.fetch("pypi:tiny==1.0")


def test_one_of_two_indexes_answers(index: Index, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ("http://127.0.0.1:9/simple/", index.url)
    monkeypatch.setattr("lnmt.hub.pypi.read_pip_config", lambda: config_of(*urls))
    assert names(hub.fetch("pypi:tiny==1.0", digest_of(sdist())))[1] == "setup.py"


def test_offline_and_not_cached(index: Index, hub: Hub) -> None:
    with pytest.raises(LnmtError, match="not in the cache, and LNMT is offline") as caught:
        hub.fetch("pypi:tiny==1.0", digest_of(wheel()), offline=True)
    assert caught.value.exit_code == 1


def test_two_processes_with_pips_own_configuration(index: Index, hub: Hub) -> None:
    """Nothing is patched in them: they read PIP_INDEX_URL as pip does. One downloads, both have it."""
    program = (
        "import sys; from pathlib import Path; from lnmt.hub import fetch; from lnmt.progress import Progress\n"
        "cache, digest = Path(sys.argv[1]), sys.argv[2]\n"
        "print(fetch('pypi:tiny==1.0', digest=digest, cache=cache, progress=Progress(), offline=False, root=cache))"
    )
    command = [sys.executable, "-c", program, str(hub.cache), digest_of(wheel())]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url}
    environment.pop("PIP_FIND_LINKS", None)
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate(timeout=60)[0].strip() for process in running}

    assert [process.returncode for process in running] == [0, 0]
    key = digest_of(wheel()).removeprefix("sha256:")
    assert found == {str(hub.cache / "hub" / key / "files")}
    assert index.downloads == [None]
