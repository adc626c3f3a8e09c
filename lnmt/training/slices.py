"""Parts of a split that are reported on separately.

Legend: N = rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnmt.errors import UnknownName

LENGTH, LABEL = "length", "label"


@dataclass(frozen=True)
class Slice:
    """The rows where `name` is `value`."""

    name: str
    value: str
    mask: NDArray[np.bool_]  # [N]


def check_slices(names: Sequence[str], columns: Sequence[str], *, labelled: bool) -> None:
    """Raise UnknownName for a name that is no slice. `labelled`: the rows have labels, and so there is `label`."""
    known = [*columns, LENGTH, *([LABEL] if labelled else [])]
    for name in names:
        if name not in known:
            raise UnknownName("slice", name, known, where="params.yaml: evaluate.slices")


def find_slices(
    names: Sequence[str],
    columns: Mapping[str, Sequence[str | None]],
    tokens: NDArray[np.int64],
    labels: Mapping[str, NDArray[np.bool_]],
    length_edges: Sequence[int],
) -> list[Slice]:
    """The slices called `names`: a column's values, `length` (by tokens [N]) or `label` (the rows [N] of each).

    Values without rows are left out, those of a column come largest first. `check_slices` has accepted the names.
    """
    found: list[Slice] = []
    for name in names:
        if name == LENGTH:
            found += _by_length(tokens, length_edges)
        elif name == LABEL:
            found += [Slice(LABEL, label, mask) for label, mask in labels.items()]
        else:
            found += _by_column(name, columns[name])
    return [entry for entry in found if entry.mask.any()]


def _by_length(tokens: NDArray[np.int64], edges: Sequence[int]) -> list[Slice]:
    """One slice up to each edge (inclusive) and one above the last."""
    bounds = [0, *sorted(set(edges))]
    upper = [*(f"{low + 1}–{high}" for low, high in itertools.pairwise(bounds)), f"over {bounds[-1]}"]
    places = np.searchsorted(np.array(bounds[1:], dtype=np.int64), tokens, side="left")
    return [Slice(LENGTH, f"{value} tokens", places == index) for index, value in enumerate(upper)]


def _by_column(name: str, values: Sequence[str | None]) -> list[Slice]:
    named = np.array(["(none)" if value is None else value for value in values], dtype=object)
    kept, counts = np.unique(named.astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [Slice(name, str(kept[index]), named == kept[index]) for index in order]
