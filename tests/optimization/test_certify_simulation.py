"""How often a search ships what is worse, and how often what is not: simulated at the sizes of the demo's test split.

Legend: N = texts, P = parts that are means of losses.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from lnmt.optimization.certify import Judged, Rows, certify
from lnmt.optimization.losses import MetricLoss
from lnmt.params import Budget
from lnmt.stats.noninferiority import mean_p_value
from lnmt.stats.shares import share_p_value

BUDGET = Budget(
    max_loss=0.01,
    max_slice_loss=0.03,
    max_metric_loss=0.01,
    max_flip_share=0.02,
    max_composition_share=0.01,
    min_slice_rows=150,
)
ALPHA = 0.05
SEARCHES = 2000
ALLOWED = int(binom.ppf(0.99, SEARCHES, ALPHA))  # wrong searches where the error rate is ALPHA
SIZES = {
    "domain": {"film": 1912, "editorial": 974, "product": 655},
    "length": {"1–10": 280, "11–20": 1007, "21–40": 1849, "over 40": 405},
    "label": {"negative": 1452, "neutral": 668, "positive": 1421},
}
TEXTS = 3541


def make_slices(sizes: dict[str, dict[str, int]], texts: int) -> dict[str, NDArray[np.bool_]]:
    """Slices of these sizes, which lie across each other as they come."""
    rng = np.random.default_rng(0)
    found: dict[str, NDArray[np.bool_]] = {}
    for column, values in sizes.items():
        places = rng.permutation(np.repeat(np.arange(len(values)), list(values.values())))
        assert len(places) == texts
        found |= {f"{column}={value}": places == place for place, value in enumerate(values)}
    return found


SLICES = make_slices(SIZES, TEXTS)
SMALLEST = "length=1–10"


class Parts:
    """The rule of `certify`, which asks for nothing that can no longer matter, and for no bounds."""

    def __init__(self, slices: dict[str, NDArray[np.bool_]], texts: int, first: str) -> None:
        masks = {"overall": np.ones(texts, dtype=np.bool_), **slices}
        self.masks = {first: masks[first], **masks}  # the one that is most likely to fail
        self.known: dict[tuple[str, int, int], float] = {}

    def hold(self, differences: NDArray[np.float64], flips: NDArray[np.bool_], whole: bool) -> bool:
        """Whether all parts of a candidate are shown."""
        p_values = self._p_values(differences, flips, whole)
        return all(p_value <= ALPHA for p_value in p_values)

    def _p_values(self, differences: NDArray[np.float64], flips: NDArray[np.bool_], whole: bool) -> Iterator[float]:
        yield share_p_value(int(flips.sum()), len(flips), BUDGET.max_flip_share)
        for name, mask in self.masks.items():
            own = differences[mask]
            margin = BUDGET.max_loss if name == "overall" else BUDGET.max_slice_loss
            if not whole:
                yield mean_p_value(own, margin, whole=False)
                continue
            key = name, int((own > 0).sum()), int((own < 0).sum())
            if key not in self.known:
                self.known[key] = mean_p_value(own, margin, whole=True)
            yield self.known[key]


def draw(rng: np.random.Generator, worse: NDArray[np.float64], better: float, whole: bool) -> NDArray[np.float64]:
    """Differences [N]: each text is worse with its chance in `worse` [N], better with chance `better`.

    Where they are not whole, by 0…1 at random: by half as much on average.
    """
    at = rng.random(len(worse))
    signs = np.where(at < worse, 1.0, np.where(at < worse + better, -1.0, 0.0))
    return signs if whole else signs * rng.random(len(worse))


def chances(part: str, mean: float, better: float, whole: bool) -> NDArray[np.float64]:
    """Of turning worse [N], so that `part` loses `mean` on average and the other texts nothing."""
    more = mean if whole else 2 * mean
    mask = SLICES.get(part, np.ones(TEXTS, dtype=np.bool_))
    return better + np.where(mask, more, 0.0)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("part", "margin"), [("domain=product", 0.03), (SMALLEST, 0.03), ("overall", 0.01)])
def test_a_search_rarely_ships_what_is_worse_by_just_the_margin(part: str, margin: float, whole: bool) -> None:
    rng, better = np.random.default_rng(11), 0.0005
    bad, good = chances(part, margin, better, whole), chances(part, 0.0, better, whole)
    parts, wrong = Parts(SLICES, TEXTS, part), 0
    for _ in range(SEARCHES):
        for worse in (bad, good, bad, good):  # in the worst order: the bad ones are tested with nothing before them
            differences = draw(rng, worse, better, whole)
            if not parts.hold(differences, differences != 0, whole):
                break
            if worse is bad:
                wrong += 1
                break
    assert wrong <= ALLOWED
    if part == SMALLEST and whole:
        assert wrong >= 20  # the level is used: the simulation could see an error


@pytest.mark.parametrize("flip_share", [0.005, 0.01])
def test_a_candidate_that_is_as_good_ships(flip_share: float) -> None:
    rng, searches = np.random.default_rng(12), 50
    half = np.full(TEXTS, flip_share / 2)
    parts = Parts(SLICES, TEXTS, SMALLEST)
    shipped = 0
    for _ in range(searches):
        differences = draw(rng, half, flip_share / 2, whole=True)
        shipped += parts.hold(differences, differences != 0, whole=True)
    assert shipped >= 0.8 * searches


def test_the_simulated_rule_is_the_one_that_certifies() -> None:
    texts = 600
    slices = make_slices({"a": {"x": 400, "y": 200}, "b": {"u": 350, "v": 250}}, texts)
    reference = np.full(texts, 0.0)
    reference[::3] = 1.0
    rng, parts, seen = np.random.default_rng(13), Parts(slices, texts, "a=y"), set()
    for turn in range(12):
        drawn = [draw(rng, np.full(texts, 0.0008 * turn), 0.0, whole=True) for _ in range(2)]
        losses = [np.clip(reference + found, 0, 1) for found in drawn]
        candidates = [
            Judged(f"candidate {place}", own, own != reference, MetricLoss("macro_f1", 0.0, np.zeros(99)))
            for place, own in enumerate(losses)
        ]
        found = certify(candidates, Rows(reference, True, slices), BUDGET, 1 - ALPHA)
        held = [parts.hold(own - reference, own != reference, whole=True) for own in losses]
        expected = [name for name, right in zip(found.order, np.logical_and.accumulate(held), strict=True) if right]
        assert list(found.certified) == expected
        seen.add(len(expected))
    assert seen == {0, 1, 2}
