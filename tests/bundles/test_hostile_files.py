"""Files whose readers run code: refused under every name and before anything parses them, digests or not."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lnmt.bundles import Bundle, new_bundle
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import sha256_bytes
from tests.bundles.conftest import DRAFT


class Evil:
    """Makes a directory when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.place),)


def plain(protocol: int) -> Callable[[Path], bytes]:
    return lambda place: pickle.dumps(Evil(place), protocol)


def torch_zip(place: Path) -> bytes:
    import torch

    torch.save(Evil(place), buffer := io.BytesIO())
    return buffer.getvalue()


def torch_former(place: Path) -> bytes:
    import torch

    saved = {"weight": torch.zeros(3), "more": Evil(place)}
    torch.save(saved, buffer := io.BytesIO(), _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def keras(place: Path) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Lambda", "place": str(place)}))
    return buffer.getvalue()


def keras_h5(place: Path) -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(88) + str(place).encode()


def joblib(place: Path) -> bytes:
    found = pytest.importorskip("joblib")
    found.dump(Evil(place), buffer := io.BytesIO())
    return bytes(buffer.getvalue())


def joblib_packed(place: Path) -> bytes:
    found = pytest.importorskip("joblib")
    found.dump(Evil(place), buffer := io.BytesIO(), compress=("gzip", 3))
    return bytes(buffer.getvalue())


def numpy_objects(place: Path) -> bytes:
    import numpy as np

    np.save(buffer := io.BytesIO(), np.array([Evil(place)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


HOSTILE: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    **{f"pickle {protocol}": (".pkl", plain(protocol)) for protocol in range(2, 6)},
    "torch.save": (".pt", torch_zip),
    "torch.save, former": (".pth", torch_former),
    "Keras": (".keras", keras),
    "Keras, HDF5": (".h5", keras_h5),
    "joblib": (".joblib", joblib),
    "joblib, gzip": (".joblib", joblib_packed),
    "NumPy objects": (".npy", numpy_objects),
}


def plant(bundle: Bundle, name: str, content: bytes) -> None:
    """Put a file into the bundle, as someone would who can also write its digest."""
    (bundle.path / name).write_bytes(content)
    manifest = bundle.path / "bundle.json"
    raw = json.loads(manifest.read_text())
    raw["files"][name] = sha256_bytes(content)
    manifest.write_text(json.dumps(raw))


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_by_its_suffix(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    suffix, make = HOSTILE[kind]
    plant(bundle, f"weights{suffix}", make(tmp_path / "ran"))
    with pytest.raises(LnmtError, match="no pickles and no code"):
        Bundle.open(bundle.path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "README"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_it_is_refused_under_any_name(bundle: Bundle, tmp_path: Path, kind: str, name: str) -> None:
    plant(bundle, name, HOSTILE[kind][1](tmp_path / "ran"))
    with pytest.raises(LnmtError, match="under any name"):
        Bundle.open(bundle.path)
    assert not (tmp_path / "ran").exists()


def test_torchscript_is_refused(bundle: Bundle) -> None:
    import torch

    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer := io.BytesIO())
    plant(bundle, "model.bin", buffer.getvalue())
    with pytest.raises(LnmtError, match=r"under any name(?s:.*)TorchScript"):
        Bundle.open(bundle.path)


def test_none_can_be_made_with_one(tmp_path: Path) -> None:
    with (
        pytest.raises(LnmtError, match="under any name"),
        new_bundle(tmp_path / "new", DRAFT) as directory,
    ):
        (directory / "model.bin").write_bytes(torch_zip(tmp_path / "ran"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"\x80\x02\x00\x00\x00\x01", b"\x80\x04", b"\x80", b"", b"\x3e\x80\x02."])
def test_numbers_that_begin_like_a_pickle_are_weights(bundle: Bundle, content: bytes) -> None:
    plant(bundle, "weights.bin", content)
    assert Bundle.open(bundle.path).file("weights.bin").read_bytes() == content


def test_without_its_digest_it_is_not_even_looked_at(bundle: Bundle) -> None:
    (bundle.path / "model.bin").write_bytes(b"other weights")
    with pytest.raises(DigestMismatch):
        Bundle.open(bundle.path)


def test_a_link_to_a_directory_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.bin").write_bytes(b"weights")
    (bundle.path / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(LnmtError, match="no links"):
        Bundle.open(bundle.path)
