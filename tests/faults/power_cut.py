"""The power goes after any call to the disk: what was not synced is there, or not, or half of it is.

A kill leaves all that was written, a power cut does not. `Disk` follows the calls of a save and knows what POSIX
promises: a file's bytes after its own fsync, a name after the fsync of its directory. Of the rest anything may have
come through. The method is that of Pillai et al., All File Systems Are Not Created Equal, OSDI 2014.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults.failing_calls import SCENES, SIZE, Opener, Scene
from tests.faults.kit import Outcome, open_checkpoints, patched, resume

CHANGES = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
REAL = {name: getattr(os, name) for name in CHANGES}


@dataclass
class Node:
    """A file or directory, now and as it is certain to be on the disk."""

    path: Path  # where its bytes are read
    entries: dict[str, Node] | None  # None: a file
    synced: dict[str, Node] = field(default_factory=dict)
    data: bytes = b""  # synced


class Disk:
    """A tree whose calls are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._node = self._load(root)

    def _load(self, path: Path) -> Node:
        if path.is_dir():
            entries = {child.name: self._load(child) for child in path.iterdir()}
            return Node(path, entries, dict(entries))
        return Node(path, None, data=path.read_bytes())

    def call(self, name: str, then: Callable[[], None], real: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Make the call, note what it changed, and let `then` look at the disk."""
        found = real(*args, **options)
        if name != "open" or args[1] & os.O_CREAT:
            self._note(name, args, options.get("dir_fd"))
            then()
        return found

    def _note(self, name: str, args: tuple[Any, ...], directory: int | None) -> None:
        if name == "write":
            return
        if name == "fsync":
            path = _path_of(args[0])
            node = self._find(path)
            if node.entries is None:
                node.data = path.read_bytes()
            else:
                node.synced = dict(node.entries)
            return
        path = Path(args[0]) if directory is None else _path_of(directory) / args[0]
        entries = self._entries(path.parent)
        if name in ("open", "mkdir"):
            entries[path.name] = Node(path, None if name == "open" else {})
        else:
            node = entries.pop(path.name)
            if name in ("rename", "replace"):
                self._entries(Path(args[1]).parent)[Path(args[1]).name] = node
                self._move(node, Path(args[1]))

    def _find(self, path: Path) -> Node:
        node = self._node
        for part in path.relative_to(self.root).parts:
            assert node.entries is not None
            node = node.entries[part]
        return node

    def _entries(self, path: Path) -> dict[str, Node]:
        entries = self._find(path).entries
        assert entries is not None
        return entries

    def _move(self, node: Node, path: Path) -> None:
        node.path = path
        for name, child in (node.entries or {}).items():
            self._move(child, path / name)

    def after_cut(self, target: Path, draw: random.Random | None) -> None:
        """Make at `target` what is there when the power is back: what is certain alone, or with some of the rest."""
        self._write(self._node, target, draw)

    def _write(self, node: Node, target: Path, draw: random.Random | None) -> None:
        if node.entries is None:
            data = node.data
            if draw and node.path.exists() and draw.random() < 0.7:
                now = node.path.read_bytes()
                data = now[: draw.choice([len(now), len(now) // 2])] if now != data else data
            target.write_bytes(data)
            return
        target.mkdir()
        for name in sorted(node.synced.keys() | node.entries.keys()):
            came = node.entries if draw and draw.random() < 0.5 else node.synced
            if name in came:
                self._write(came[name], target / name, draw)


@dataclass
class Look:
    """Looks at what a power cut would leave."""

    scene: Scene
    disk: Disk
    opened: Opener
    images: int
    draw: random.Random
    tick: Callable[[], None]
    tried: int = 0
    failures: list[str] = field(default_factory=list)

    def __call__(self, allowed: set[int | None]) -> None:
        """Resume, as a new run would, from the worst image and from some drawn ones."""
        image = self.disk.root.with_name("image")
        with patched(os, **REAL):
            for place in range(self.images + 1):
                self.disk.after_cut(image, self.draw if place else None)
                notes: list[str] = []
                found = resume(self.opened(image / "checkpoints", keep=self.scene.keep, notes=notes), notes, SIZE)
                if found.step not in allowed or found.wrong or (found.damaged and not self.scene.damaged):
                    self.failures.append(f"{self.scene.name}: {found}, not one of {allowed}")
                self.tried += 1
                shutil.rmtree(image)
                self.tick()


def run(
    images: int, directory: Path, seed: int, tick: Callable[[], None], opened: Opener = open_checkpoints
) -> Outcome:
    """After each call of each scene: the worst image and `images` drawn ones must be usable; after the last, the new
    checkpoint must be there: `save` has returned.
    """
    outcome = Outcome("power cut after a call", 0)
    draw = random.Random(seed)
    lost = 0
    for number, scene in enumerate(SCENES):
        root = directory / f"scene-{number}"
        work = root / "checkpoints"
        work.mkdir(parents=True)
        scene.set_up(work, opened)
        if not scene.before:
            work.rmdir()
        before = scene.before[-1] if scene.before else None
        disk = Disk(root)
        look = Look(scene, disk, opened, images, draw, tick)
        then = partial(look, {before, scene.does or before})
        with patched(os, **{name: partial(disk.call, name, then, real) for name, real in REAL.items()}):
            scene.do(work, opened)
        during = len(look.failures)
        look({scene.does or before})
        lost += len(look.failures) - during
        outcome.tried += look.tried
        outcome.failures += look.failures
    outcome.figures = {"unusable states": len(outcome.failures), "saves lost that had returned": lost}
    return outcome


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
