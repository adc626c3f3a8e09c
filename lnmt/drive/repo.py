"""DVC in this process: what is stale, what the lock says, and outputs back from the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnmt.drive.holders import Busy
from lnmt.errors import LnmtError


@contextmanager
def open_repo(root: Path) -> Iterator[Any]:
    """The project's `dvc.repo.Repo`. DVC's errors become ours; a held lock becomes Busy."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(root)) as repo:
            yield repo
    except LockError as error:
        raise Busy(str(error)) from error
    except (NotDvcRepoError, SCMError) as error:
        raise LnmtError(
            f"DVC cannot work here: {error}",
            where=root,
            fix="make a project with `lnmt init DIRECTORY`, or run `git init` and `dvc init` in this one",
        ) from error
    except DvcException as error:
        raise LnmtError(f"DVC: {error}", where=root / "dvc.yaml", fix="mend what it names; see dvc.yaml") from error


def stale(root: Path, name: str) -> list[Any]:
    """What `dvc status` says of the stage: empty where its outputs are those of its present inputs."""
    with open_repo(root) as repo:
        # the file by its whole path: DVC looks for targets below the working directory
        status: dict[str, list[Any]] = repo.status(targets=[f"{root / 'dvc.yaml'}:{name}"])
    return [change for changes in status.values() for change in changes]


def output_hashes(root: Path, name: str) -> dict[str, str]:
    """Path → content hash of the stage's outputs, out of dvc.lock."""
    import yaml

    lock = root / "dvc.lock"
    content = yaml.safe_load(lock.read_text(encoding="utf-8")) if lock.exists() else None
    entry = (content or {}).get("stages", {}).get(name, {})
    return {out["path"]: str(out.get("md5", "")) for out in entry.get("outs", [])}


def restore_missing(root: Path, name: str) -> list[str]:
    """Bring back the stage's last outputs where a failed run left none; returns those that came back.

    DVC deletes a stage's outputs before it runs. The stage stays stale: its inputs are not those
    of the outputs.
    """
    from dvc.exceptions import DvcException

    missing = [path for path in output_hashes(root, name) if not (root / path).exists()]
    restored = []
    with contextlib.suppress(Busy, LnmtError), open_repo(root) as repo:
        for path in missing:
            with contextlib.suppress(DvcException):  # the cache may have been cleaned
                repo.checkout(targets=[str(root / path)], force=True)
                restored.append(path)
    return restored
