"""Where events and labels are: lines in spool files, and the segments that lines are moved to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lnmt.monitoring import segments, spool


@dataclass
class ReadReport:
    """What a reader left out."""

    corrupt: int = 0  # lines torn by a kill, altered, or of another LNMT version
    duplicates: int = 0  # events whose id had come before


def open_files(directory: Path, kind: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Every file of a kind, open: spool files, then segments from the lowest level up.

    What is moved is moved down this list, and removed only when it has arrived: whoever finds a file gone
    looks again, and misses nothing. What is on its way may come twice.
    """
    read: set[Path] = set()
    gone = True
    while gone:
        gone = False
        for path in [*spool.spool_files(directory, kind), *segments.segment_files(directory, kind)]:
            if path in read:
                continue
            try:
                file = path.open("rb")
            except FileNotFoundError:
                gone = True
                continue
            read.add(path)
            with file:
                yield path, file


def is_spool(path: Path) -> bool:
    """Whether it holds lines; a segment holds columns."""
    return path.suffix == spool.SUFFIX


def span(path: Path, file: BinaryIO) -> tuple[float, float]:
    """Unix seconds between which everything in an open file happened."""
    if is_spool(path):
        return spool.started(path), os.fstat(file.fileno()).st_mtime
    return segments.span(path)
