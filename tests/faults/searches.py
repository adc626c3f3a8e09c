"""Searches of a tiny model in forked processes, which tell what they begin and what is kept of it.

Lines are `begin WHAT` and `end WHAT`: what has ended is on the disk, and no later process may begin it again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.files import file_digests, read_json
from lnmt.optimization import bench, build
from lnmt.optimization.compressions.prune_weights import PruneWeights
from lnmt.optimization.optimize import optimize
from lnmt.optimization.records import Records
from lnmt.params import Params
from tests.faults.kit import Child, patched
from tests.optimization.conftest import quick, stage_io
from tests.training.training_kit import train_params

Tell = Callable[[str], None]

OUTPUTS = ("models/reference", "models/optimized", "reports/optimization")
BUILDS = ("begin files onnxruntime", "begin weights")  # those that take longest
IMPORTED = ("jinja2", "onnx", "onnxruntime", "onnxscript", "torch.onnx")  # by a search on its way


def preload() -> None:
    """What a search imports: children have it at once."""
    for name in IMPORTED:
        importlib.import_module(name)


def params(recipes: Sequence[str]) -> Params:
    """PyTorch and ONNX Runtime on the weights as trained, and on those of each compression."""
    found = quick(
        engines=["torch", "onnxruntime"],
        precisions=["fp32"],
        compressions=[[{"name": name}] for name in recipes],
        finalists=1,
    )
    return found.model_copy(update={"train": train_params(checkpoint_s=0.1)})


@dataclass
class Search:
    """The searches of one project, one after the other, until one has ended."""

    root: Path
    work: Path
    log: Path  # what its processes say
    recipes: Sequence[str] = ()  # compressions that are tried
    done: set[str] = field(default_factory=set)  # what is kept on the disk
    again: list[str] = field(default_factory=list)  # begun although it was kept
    last: str = ""

    def start(self) -> Child:
        """A process that searches."""
        self.last = ""
        return Child(self._search)

    def note(self, line: str) -> None:
        """Take in what a process told."""
        step, _, what = line.partition(" ")
        if step == "end":
            self.done.add(what)
        elif step == "begin" and what in self.done:
            self.again.append(f"{what} was done again")
        self.last = line

    def end(self, child: Child) -> int:
        """Wait for `child`; its status."""
        status, lines = child.end()
        for line in lines:
            self.note(line)
        return status

    def published(self) -> dict[str, dict[str, str]]:
        """The digests of what stands where a search publishes. Raises LnmtError for a bundle that is not whole."""
        found = {}
        for name in OUTPUTS:
            if (self.root / name).exists():
                if name.startswith("models/"):
                    Bundle.open(self.root / name)
                found[name] = file_digests(self.root / name)
        return found

    def answers(self) -> dict[str, Any]:
        """How far each candidate was from the reference, by name: no time is in it."""
        document = read_json(self.root / OUTPUTS[2] / "measurements.json")
        return {entry["name"]: (entry["failure"], entry["parity"]) for entry in document["measurements"]}

    def certified(self) -> list[str]:
        """What is wrong with the bundle that ships."""
        reference, shipped = (Bundle.open(self.root / name) for name in OUTPUTS[:2])
        if "certificate.json" not in shipped.manifest.files:
            return ["what ships has no certificate"]
        proof = read_json(shipped.file("certificate.json"))
        wrong = []
        if not proof["files"].items() <= shipped.manifest.files.items():
            wrong.append("its certificate is of other files")
        if proof["reference"]["bundle"] != reference.digest:
            wrong.append("its certificate is of another reference")
        return wrong

    def _search(self, tell: Tell) -> None:
        sys.stderr = self.log.open("a", encoding="utf-8")
        with telling(tell):
            optimize(params(self.recipes), replace(stage_io(self.root), work=self.work))


@contextmanager
def telling(tell: Tell) -> Iterator[None]:
    """A search within tells its steps."""
    with ExitStack() as stack:
        for target, name in (
            (bench, "collect"),
            (bench.Bench, "_look"),
            (Records, "keep_answers"),
            (Records, "keep_measurement"),
            (build, "new_directory"),
            (build, "write_json"),
            (PruneWeights, "compress"),
        ):
            stack.enter_context(patched(target, **{name: WATCHED[name](getattr(target, name), tell)}))
        yield


def _collect(real: Any, tell: Tell) -> Any:
    def collect(predictor: Any, held: Any, progress: Any, name: str) -> Any:
        tell(f"begin answers {name}")
        return real(predictor, held, progress, name)

    return collect


def _keep_answers(real: Any, tell: Tell) -> Any:
    def keep_answers(records: Any, split: str, candidate: Any, found: Any) -> Any:
        kept = real(records, split, candidate, found)
        tell(f"end answers {split} {candidate.name}")
        return kept

    return keep_answers


def _look(real: Any, tell: Tell) -> Any:
    def look(self: Any, candidate: Any) -> Any:
        tell(f"begin look {candidate.name}")
        return real(self, candidate)

    return look


def _keep_measurement(real: Any, tell: Tell) -> Any:
    def keep_measurement(records: Any, found: Any) -> Any:
        kept = real(records, found)
        tell(f"end look {found.candidate.name}")
        return kept

    return keep_measurement


def _new_directory(real: Any, tell: Tell) -> Any:
    @contextmanager
    def new_directory(target: Path) -> Iterator[Path]:
        tell(f"begin files {target.name}")
        with real(target) as directory:
            yield directory
        tell(f"end files {target.name}")

    return new_directory


def _compress(real: Any, tell: Tell) -> Any:
    def compress(self: Any, model: Any, shop: Any) -> Any:
        tell("begin weights prune_weights")
        return real(self, model, shop)

    return compress


def _write_json(real: Any, tell: Tell) -> Any:
    def write_json(path: Path, value: Any) -> None:
        real(path, value)
        if path.parent.name == "weights":
            tell(f"end weights {path.stem}")

    return write_json


WATCHED: dict[str, Callable[[Any, Tell], Any]] = {
    "collect": _collect,
    "_look": _look,
    "keep_answers": _keep_answers,
    "keep_measurement": _keep_measurement,
    "new_directory": _new_directory,
    "write_json": _write_json,
    "compress": _compress,
}


def whole(search: Search) -> list[str]:
    """What is wrong where a search publishes, after it was ended."""
    try:
        search.published()
    except LnmtError as error:
        return [f"half a bundle was published: {error.what}"]
    return []
