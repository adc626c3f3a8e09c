"""What a TensorRT engine is built for, and a built one on the disk.

A plan (TensorRT's word for a serialised engine) runs on the TensorRT version and GPU that it was built with alone,
and deserialising a foreign one is undefined at best: nothing is read that does not match, digest included. It travels
in the bundle, beside the graph that it was built from.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lnmt.bundles import Manifest
from lnmt.files import read_json, sha256_bytes, write_bytes, write_json

MAX_ROWS = 64  # of one call; more are split
OPT_ROWS = 16
GRAPH, PLAN, FACTS = "model.onnx", "model.plan", "plan.json"


@dataclass(frozen=True)
class Profile:
    """One optimisation profile: shapes [B, T] that the engine takes, and the one that its kernels are chosen for."""

    least: tuple[int, int]
    best: tuple[int, int]
    most: tuple[int, int]

    def takes(self, rows: int, tokens: int) -> bool:
        """Whether a batch [rows, tokens] lies inside."""
        return all(low <= size <= high for low, size, high in zip(self.least, (rows, tokens), self.most, strict=True))


def make_profiles(max_tokens: int, pad_multiple: int, max_rows: int = MAX_ROWS) -> tuple[Profile, ...]:
    """One profile for single texts, whose latency counts, and one for batches, whose throughput does.

    Lengths go from 1 to `max_tokens`; kernels are chosen for half of that, rounded up to `pad_multiple`: most texts
    are shorter than the longest.
    """
    usual = min(-(-max(max_tokens // 2, 1) // pad_multiple) * pad_multiple, max_tokens)
    single = Profile((1, 1), (1, usual), (1, max_tokens))
    if max_rows == 1:
        return (single,)
    return single, Profile((2, 1), (max(2, min(OPT_ROWS, max_rows)), usual), (max_rows, max_tokens))


def profiles_of(manifest: Manifest, group_rows: int | None) -> tuple[Profile, ...]:
    """Those of a bundle that runs in groups of so many rows; None: in batches as they come."""
    return make_profiles(manifest.max_tokens, manifest.pad_multiple, group_rows or MAX_ROWS)


@dataclass(frozen=True)
class Machine:
    """What a plan is tied to."""

    tensorrt: str  # version, `11.4.0.106`
    gpu: str  # `NVIDIA L4`
    capability: tuple[int, int]  # (8, 9)


@dataclass(frozen=True)
class Key:
    """What decides whether a plan may be used."""

    graph: str  # digest of the ONNX file
    machine: Machine
    profiles: tuple[Profile, ...]

    def as_json(self) -> dict[str, Any]:
        """As it stands beside the plan; tuples are lists there."""
        return {
            "graph": self.graph,
            "machine": asdict(self.machine) | {"capability": list(self.machine.capability)},
            "profiles": [{name: list(shape) for name, shape in asdict(profile).items()} for profile in self.profiles],
        }


def write_plan(directory: Path, key: Key, plan: bytes) -> None:
    """The plan, then the facts that make it valid: a reader sees a whole entry, or none."""
    (directory / FACTS).unlink(missing_ok=True)
    write_bytes(directory / PLAN, plan)
    write_json(directory / FACTS, {**key.as_json(), "plan": sha256_bytes(plan)})


def read_plan(directory: Path, key: Key) -> bytes | str:
    """The plan of `directory`, or in words why it cannot be used: absent, cut off, changed, or of another key."""
    try:
        facts, plan = read_json(directory / FACTS), (directory / PLAN).read_bytes()
    except FileNotFoundError:
        return "there is none"
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    if not isinstance(facts, dict):
        return "its facts are no JSON object"
    wanted = key.as_json()
    for name, value in wanted.items():
        if facts.get(name) != value:
            return f"it was built for {name} {_told(facts.get(name))}; here it is {_told(value)}"
    if facts.get("plan") != sha256_bytes(plan):
        return "its bytes are not those that were written"
    return plan


def _told(value: object) -> object:
    return ", ".join(map(str, value.values())) if isinstance(value, dict) else value


def parts(rows: int, max_rows: int) -> Sequence[slice]:
    """`rows` rows in as few and as equal parts of at most `max_rows` as can be."""
    count = -(-rows // max_rows)
    ends = [rows * part // count for part in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
