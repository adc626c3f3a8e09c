"""The champion as files beside the code: what `bentoml build` packs, and a service without a store serves."""

from __future__ import annotations

import shutil
from pathlib import Path

from lnmt.bundles.bundle import MANIFEST, Bundle
from lnmt.errors import LnmtError
from lnmt.files import new_directory

CHAMPION = Path("models/champion")


def pack_champion(bundle: Bundle, root: Path) -> Path:
    """Copy `bundle` to `root/models/champion`, whole or not at all; returns that path.

    The directory is a projection of the deployment, written by whoever released: never the truth.
    The bundle that is there already is not copied again.
    """
    target = root / CHAMPION
    if _digest(target) != bundle.digest:
        with new_directory(target) as directory:
            shutil.copytree(bundle.path, directory, dirs_exist_ok=True)
    return target


def packed_champion(root: Path) -> Bundle | None:
    """The verified bundle packed below `root`, None where there is none. Raises as `Bundle.open` does."""
    path = root / CHAMPION
    return Bundle.open(path) if (path / MANIFEST).is_file() else None


def _digest(path: Path) -> str | None:
    try:
        return Bundle.open(path).digest
    except LnmtError:
        return None
