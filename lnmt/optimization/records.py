"""What the search has found so far, on disk: a killed search goes on with it.

Legend: R = rounds, Q = calls in a round.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lnmt.files import canonical_json, read_json, sha256_bytes, write_bytes, write_json
from lnmt.optimization.answers import Answers
from lnmt.optimization.candidate import Candidate, Measurement


class Records:
    """Measurements and answers by candidate, below one directory; whole or absent, one file each.

    They hold for one `setting` (machine, libraries, code): where it differs from the one that is there, everything
    below the directory is thrown away.
    """

    def __init__(self, directory: Path, setting: Mapping[str, Any]) -> None:
        self.directory = directory
        place, digest = directory / "setting.json", sha256_bytes(canonical_json(setting))
        if not (place.is_file() and read_json(place) == digest):
            shutil.rmtree(directory, ignore_errors=True)
            write_json(place, digest)

    def measurement(self, candidate: Candidate) -> Measurement | None:
        """What was kept of `candidate`, None where nothing was."""
        path = self._path("look", candidate.name, "json")
        return Measurement.from_json(candidate, read_json(path)) if path.is_file() else None

    def keep_measurement(self, found: Measurement) -> Measurement:
        """Keep it; gives it back."""
        write_json(self._path("look", found.candidate.name, "json"), found.as_json())
        return found

    def answers(self, split: str, candidate: Candidate) -> Answers | None:
        """The candidate's answers to a split; None where they were not kept, or the file is damaged."""
        path = self._path(f"answers-{split}", candidate.name, "npz")
        if not path.is_file():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                return Answers(found["numbers"], found["choices"], found["scored"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep_answers(self, split: str, candidate: Candidate, found: Answers) -> Answers:
        """Keep them; gives them back."""
        buffer = io.BytesIO()
        np.savez(buffer, numbers=found.numbers, choices=found.choices, scored=found.scored)
        write_bytes(self._path(f"answers-{split}", candidate.name, "npz"), buffer.getvalue())
        return found

    def _path(self, kind: str, name: str, ending: str) -> Path:
        return self.directory / kind / f"{sha256_bytes(name.encode()).removeprefix('sha256:')[:16]}.{ending}"
