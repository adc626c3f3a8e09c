"""A small package index on a loopback port, and a cache of the test's own."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from lnmt.hub import fetch
from lnmt.hub.fetch import Kind
from lnmt.hub.pip_config import PipConfig
from lnmt.progress import Progress
from tests.http_server import Reply, Request, serve

SETUP = b"import pathlib; pathlib.Path('/nonexistent/executed').touch()\n"


@cache  # archives hold the time
def wheel() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("tiny/model.bin", bytes(range(256)) * 4000)  # a megabyte
        file.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny\nVersion: 1.0\n")
    return sink.getvalue()


@cache
def sdist() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as file:
        for name, content in {"tiny-1.0/setup.py": SETUP, "tiny-1.0/data/rows.csv": b"text,label\na,b\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Index:
    """Serves `tiny` 1.0 as a wheel and as a source distribution; notes every request for a file."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {"tiny-1.0-py3-none-any.whl": wheel(), "tiny-1.0.tar.gz": sdist()}
    )
    tells_digests: bool = True
    status: int = 200  # of the page
    cuts: list[int] = field(default_factory=list)  # bytes after which the next downloads break
    downloads: list[str | None] = field(default_factory=list)  # the Range of each
    promised: dict[str, str] = field(default_factory=dict)  # digests on the page that are not the file's
    url: str = ""

    def answer(self, request: Request) -> Reply:
        name = request.path.rpartition("/")[2]
        if name in self.files:
            return self._download(self.files[name], request.headers.get("Range"))
        if request.path != "/simple/tiny/":
            return Reply(status=404)
        links = "".join(f'<a href="/files/{name}{self._fragment(name)}">{name}</a>' for name in self.files)
        return Reply(links.encode(), status=self.status, headers={"Content-Type": "text/html"})

    def _fragment(self, name: str) -> str:
        digest = self.promised.get(name) or digest_of(self.files[name])
        return f"#sha256={digest.removeprefix('sha256:')}" if self.tells_digests else ""

    def _download(self, content: bytes, asked: str | None) -> Reply:
        self.downloads.append(asked)
        cut = self.cuts.pop(0) if self.cuts else None
        if asked is None:
            return Reply(content, cut_after=cut)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return Reply(status=416)
        told = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(content[start:], status=206, headers={"Content-Range": told}, cut_after=cut)


def config_of(*index_urls: str) -> PipConfig:
    return PipConfig(index_urls, find_links=(), trusted_hosts=(), cert=None, client_cert=None, proxy=None, timeout_s=5)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    index = Index()
    with serve(index.answer) as address:
        index.url = f"{address}/simple/"
        monkeypatch.setattr("lnmt.hub.pypi.read_pip_config", lambda: config_of(index.url))
        monkeypatch.setattr("lnmt.hub.download.WAIT_S", 0)
        yield index


@dataclass(frozen=True)
class Hub:
    """`fetch` into a cache of the test's own."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def fetch(
        self, reference: str, digest: str | None = None, *, kind: Kind | None = None, offline: bool = False
    ) -> Path:
        return fetch(
            reference,
            digest=digest,
            kind=kind,
            cache=self.cache,
            progress=Progress(self.root / "progress.jsonl"),
            offline=offline,
            root=self.root,
        )


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)
