"""What a file is by its first and last bytes: a pickle stays one under any name."""

from __future__ import annotations

import os
from pathlib import Path

# A pickle of protocol 2 or later begins with its version, and ends with a STOP. Weights that are plain numbers may
# begin like one, but one in four million does both. https://docs.python.org/3/library/pickletools.html
PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
STOP = b"."
# torch.save's former format: a pickle of this number stands first, and no STOP last.
TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# torch.save, TorchScript, .keras and .npz are archives; none of them belongs in a bundle.
ARCHIVES = {
    b"PK\x03\x04": "a zip archive, as torch.save, TorchScript and Keras write it",
    b"\x89HDF\r\n\x1a\n": "HDF5, as Keras writes it",
    b"\x93NUMPY": "a NumPy file",
    b"\x1f\x8b": "compressed by gzip",
    b"\x7fELF": "a program",
}


def unsafe_content(path: Path) -> str | None:
    """What the file is, where its readers would run code that stands in it; else None."""
    with path.open("rb") as file:
        head = file.read(len(TORCH))
        if head == TORCH:
            return "a pickle, as torch.save writes it"
        if head.startswith(PICKLES):
            file.seek(-1, os.SEEK_END)
            if file.read(1) == STOP:
                return "a pickle"
    return next((what for magic, what in ARCHIVES.items() if head.startswith(magic)), None)
