"""Files that may be compressed (.gz, .zst), as plain bytes; and where their bytes do not fit the encoding."""

from __future__ import annotations

import codecs
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from lnmt.errors import LnmtError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BLOCK_BYTES = 2**20


def compression_of(path: Path) -> str | None:
    """`gzip`, `zstd` or None, by the file's ending."""
    return COMPRESSIONS.get(path.suffix.lower())


@contextmanager
def plain_stream(path: Path) -> Iterator[Any]:
    """The decompressed bytes as a file object. A file that is cut off or is not what it is called raises LnmtError."""
    try:
        with pa.input_stream(str(path), compression=compression_of(path), buffer_size=BLOCK_BYTES) as stream:
            yield stream
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise LnmtError(
            f"cannot read the file: {error.strerror}", where=path, fix="mend the path or its rights"
        ) from error
    except OSError as error:
        if error.errno is not None:  # of the system, a full disk for one; a damaged stream has none
            raise
        raise LnmtError(
            f"the {compression_of(path)} file is damaged or cut off: {error}",
            where=path,
            value=f"{path.stat().st_size} bytes",
            fix="copy or download it again",
        ) from error


@contextmanager
def plain_file(path: Path, work: Path) -> Iterator[Path]:
    """A path with the decompressed bytes, for formats that are read from their end; temporary where it must be made."""
    if compression_of(path) is None:
        yield path
        return
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as directory:
        plain = Path(directory) / path.stem
        with plain_stream(path) as stream, plain.open("wb") as file:
            shutil.copyfileobj(stream, file, BLOCK_BYTES)
        yield plain


def text_lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines with their ends, split at \\n alone. Raises LnmtError with the offset where bytes do not fit `encoding`."""
    rest = ""
    for text in text_blocks(path, encoding):
        lines = (rest + text).split("\n") if "\n" in text else [rest + text]
        rest = lines.pop()
        yield from (line + "\n" for line in lines)
    if rest:
        yield rest


def text_blocks(path: Path, encoding: str) -> Iterator[str]:
    """The decoded text in blocks, without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if _is_utf8(encoding) else encoding)()
    offset = line = 0
    with plain_stream(path) as stream:
        while True:
            block = stream.read(BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                start = offset + len(block) - len(error.object) + error.start
                before = bytes(error.object[: error.start]).count(b"\n")
                raise _wrong_encoding(path, encoding, start, line + before + 1, error) from error
            yield text
            if not block:
                return
            offset += len(block)
            line += text.count("\n")


def check_encoding(encoding: str) -> None:
    """Raise LnmtError where Python knows no such encoding."""
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise LnmtError(
            "unknown encoding",
            where="params.yaml: ingest.sources: encoding",
            value=encoding,
            allowed="utf-8, utf-16, latin-1, cp1252 and what else Python knows",
            fix="mend the name",
        ) from error


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}


def _wrong_encoding(path: Path, encoding: str, offset: int, line: int, error: UnicodeDecodeError) -> LnmtError:
    bad = bytes(error.object[error.start : error.end])
    around = bytes(error.object[max(0, error.start - 20) : error.end + 20])
    return LnmtError(
        f"the file is not {encoding}",
        where=f"{path}, line {line}, byte {offset}",
        value=f"{bad!r} in {around!r}",
        allowed=encoding,
        fix="set `encoding` to what the file is (latin-1, cp1252, utf-16 …), or write the file again as utf-8",
    )
