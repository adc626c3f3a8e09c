"""`hf:` references, against a server that speaks as much of the hub as a snapshot needs."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.utils._http import close_session

from lnmt.errors import DigestMismatch, LnmtError, Transient
from lnmt.files import directory_digest
from tests.http_server import Reply, Request, serve
from tests.hub.conftest import Hub

COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(2000),
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"another engine's",
    "tokenizer.json": b"{ }",
}
WANTED = ["config.json", "model.safetensors", "tokenizer.json"]


@dataclass
class FakeHub:
    requests: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Reply:
        self.requests.append(request.path)
        if request.path.startswith("/api/models/acme/tiny/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            value = {"_id": "1", "id": "acme/tiny", "modelId": "acme/tiny", "sha": COMMIT, "siblings": siblings}
            return Reply(json.dumps(value).encode(), headers={"Content-Type": "application/json"})
        if request.path.startswith("/api/models/acme/tiny/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha256(content).hexdigest()[:40]}
                for name, content in FILES.items()
            ]
            return Reply(json.dumps(tree).encode(), headers={"Content-Type": "application/json"})
        name = request.path.partition(f"/acme/tiny/resolve/{COMMIT}/")[2]
        if name in FILES:
            etag = hashlib.sha256(FILES[name]).hexdigest()[:40]
            return Reply(FILES[name], headers={"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        return Reply(b"{}", status=404, headers={"X-Error-Code": "RepoNotFound"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    with serve(fake.answer) as url:
        point_to(url, monkeypatch)
        yield fake
        close_session()


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    close_session()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_a_snapshot_without_pickles_once(server: FakeHub, hub: Hub) -> None:
    directory = hub.fetch("hf:acme/tiny@main")
    assert names(directory) == WANTED
    asked = len(server.requests)
    assert hub.fetch("hf:acme/tiny@main", offline=True) == directory
    assert hub.fetch("hf:acme/tiny", directory_digest(directory)) != directory
    assert len(server.requests) > asked
    assert not [path for path in server.requests if path.endswith((".bin", ".onnx"))]


def test_another_digest(server: FakeHub, hub: Hub) -> None:
    with pytest.raises(DigestMismatch) as caught:
        hub.fetch("hf:acme/tiny", "sha256:" + "0" * 64)
    assert "pin the revision" in (caught.value.fix or "")
    assert not [path for path in hub.cache.rglob("*") if path.suffix == ".safetensors"]


def test_no_such_repository(server: FakeHub, hub: Hub) -> None:
    with pytest.raises(LnmtError, match="no such repository or revision") as caught:
        hub.fetch("hf:acme/huge")
    assert (caught.value.value, caught.value.exit_code) == ("hf:acme/huge", 1)
    with pytest.raises(LnmtError, match="no such repository or revision"):
        hub.fetch("hf:not/a/name")


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening
        point_to(f"http://127.0.0.1:{held.getsockname()[1]}", monkeypatch)
        with pytest.raises(Transient, match="the hub does not answer") as caught:
            hub.fetch("hf:acme/tiny")
    assert "local:PATH" in (caught.value.fix or "")


def test_offline(hub: Hub) -> None:
    with pytest.raises(LnmtError, match="not in the cache, and LNMT is offline"):
        hub.fetch("hf:acme/tiny", offline=True)
