"""One checkpoint on the disk: a directory with `PART.safetensors` for tensors, and `state.json` for the rest.

`state.json` is written last and holds the digest of every other file and of itself: a directory without it
is one whose writing was cut short, a directory that does not agree with it is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors import safe_open
from torch import Tensor

from lnmt.errors import LnmtError
from lnmt.files import canonical_json, read_json, sha256_bytes, sha256_file, sync_directory
from lnmt.training.state_tree import pack, unpack

FORMAT = 1
MANIFEST = "state.json"

DTYPES = {  # names of https://github.com/huggingface/safetensors#format
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Damaged(Exception):
    """A checkpoint that cannot be read, with what is wrong with it. Never leaves `lnmt.training`."""


def write_parts(directory: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the tensors of each part's state into the empty `directory`; everything in it is then on the disk.

    Returns `parts` and `files` of the manifest.
    """
    trees: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name, state in parts.items():
        trees[name], tensors = pack(state, name)
        if tensors:
            files[tensor_file(name)] = _write_tensors(directory / tensor_file(name), tensors, name)
    sync_directory(directory)
    return {"parts": trees, "files": files}


def write_manifest(directory: Path, content: Mapping[str, Any]) -> None:
    """Make a whole checkpoint of `directory`: its manifest is there at once, and then on the disk."""
    document = {"format": FORMAT, **content}
    document["digest"] = sha256_bytes(canonical_json(document))
    temporary = directory / f".{MANIFEST}.{uuid.uuid4().hex}"
    _write_new(temporary, [json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"])
    temporary.replace(directory / MANIFEST)
    sync_directory(directory)


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest; of another format it has `format` for certain, and nothing else. Raises Damaged."""
    try:
        document = read_json(directory / MANIFEST)
    except (OSError, ValueError) as error:
        raise Damaged(f"{MANIFEST} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Damaged(f"{MANIFEST} is no JSON object")
    if document.get("format") != FORMAT:
        return {"format": document.get("format")}
    promised = document.pop("digest", None)
    found = sha256_bytes(canonical_json(document))
    if found != promised:
        raise Damaged(f"{MANIFEST} is {found}, not {promised}")
    return document


def check_files(directory: Path, files: Mapping[str, str]) -> None:
    """Raise Damaged where a file has another digest than `files` promises."""
    for name, digest in files.items():
        try:
            found = sha256_file(directory / name)
        except OSError as error:
            raise Damaged(f"{name} cannot be read: {error.strerror}; it was {digest}") from error
        if found != digest:
            raise Damaged(f"{name} is {found}, not {digest}")


def read_part(directory: Path, manifest: Mapping[str, Any], name: str) -> Any:
    """The state of one part, its tensors on the CPU; files are taken as they are, see `check_files`."""
    tensors: dict[str, Tensor] = {}
    if tensor_file(name) in manifest["files"]:
        # mapped tensors would keep a deleted checkpoint on the disk for as long as somebody holds them
        with safe_open(directory / tensor_file(name), framework="pt", backend="pread") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no mapping
    return unpack(manifest["parts"][name], tensors)


def tensor_file(part: str) -> str:
    """Where the tensors of `part` are."""
    return f"{quote(part, safe='')}.safetensors"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor], part: str) -> str:
    """A safetensors file, its digest returned.

    The library's own writer hides the errors of the disk, and its bytes in memory would be a second copy of
    the model; the format is a line of JSON and the tensors as they lie in memory.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise LnmtError(
                f"a checkpoint cannot hold a tensor of {tensor.dtype}",
                where=f"state of {part}: {name}",
                allowed=", ".join(str(dtype) for dtype in DTYPES),
                fix="let its state_dict() return it as one of these",
            )
    # wide numbers first, so that each lies at a multiple of its size
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    line = json.dumps(header, separators=(",", ":")).encode()
    line += b" " * (-len(line) % 8)
    head = len(line).to_bytes(8, "little") + line
    return _write_new(path, (head, *map(_memory, ordered.values())))


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a tensor: not a copy where it lies on the CPU in one piece."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


def _write_new(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a file that is not there yet, down to the disk, and return its digest.

    Hashing takes about as long as writing and lets other threads run meanwhile: it has one of its own.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(1) as hasher:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for piece in pieces:
                hasher.submit(digest.update, piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
    return f"sha256:{digest.hexdigest()}"
