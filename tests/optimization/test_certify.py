from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lnmt.errors import LnmtError
from lnmt.optimization.certify import Judged, Rows, Verdict, certify, judge, safest_first
from lnmt.optimization.losses import MetricLoss
from lnmt.params import Budget

BUDGET = Budget(
    max_loss=0.05,
    max_slice_loss=0.1,
    max_metric_loss=0.05,
    max_flip_share=0.1,
    max_composition_share=0.01,
    min_slice_rows=50,
)
TEXTS = 300


def rows(**slices: NDArray[np.bool_]) -> Rows:
    """Every third text is wrong."""
    losses = np.zeros(TEXTS)
    losses[::3] = 1.0
    film = np.arange(TEXTS) < 200
    return Rows(losses, True, {"domain=film": film, "domain=news": ~film, **slices})


def candidate(name: str = "fast", worse: tuple[int, ...] = (), **changes: Any) -> Judged:
    """As the reference, but for texts that it was right on and this one is not."""
    losses = rows().losses.copy()
    losses[list(worse)] = 1.0
    found = {"flips": losses != rows().losses, "metric": MetricLoss("macro_f1", 0.001, np.linspace(-0.01, 0.01, 99))}
    return Judged(name, losses, **(found | changes))


NEWS = tuple(at for at in range(200, 300) if at % 3)  # right ones of the slice


def part(verdict: Verdict, name: str) -> Any:
    return next(one for one in verdict.parts if one.name == name)


def test_every_part_is_there_and_the_weakest_decides() -> None:
    found = judge(candidate(), rows(), BUDGET, 0.95)
    assert [one.name for one in found.parts] == ["overall", "domain=film", "domain=news", "flips", "macro-F1"]
    overall, film, news, flips, metric = found.parts
    assert overall.p_value == pytest.approx(0.95**300, rel=0.011)
    assert film.p_value == pytest.approx(0.9**200, rel=0.011)
    assert news.p_value == pytest.approx(0.9**100, rel=0.011)
    assert flips.p_value == pytest.approx(0.9**300)
    assert flips.upper == pytest.approx(1 - 0.05 ** (1 / 300))
    assert metric.p_value == 1 / 100
    assert found.p_value == 1 / 100
    assert (overall.rows, film.rows, news.rows) == (300, 200, 100)
    assert (overall.margin, film.margin, flips.margin, metric.margin) == (0.05, 0.1, 0.1, 0.05)
    assert overall.estimate == 0
    assert overall.told.startswith("overall: loses at most 0.00")
    assert "0.05 is allowed (0 on 300 texts)" in overall.told
    assert found.failed(0.05) == []


def test_a_slice_that_loses_is_named_with_figures() -> None:
    found = judge(candidate(worse=NEWS[:9]), rows(), BUDGET, 0.95)
    news = part(found, "domain=news")
    assert news.estimate == pytest.approx(0.09)
    assert news.upper > 0.1
    assert news in found.failed(0.05)
    assert found.p_value == max(one.p_value or 0 for one in found.parts) >= news.p_value > 0.05
    assert news.told == f"domain=news: loses at most {news.upper:.4g}, more than the 0.1 allowed (0.09 on 100 texts)"


def test_a_gain_elsewhere_does_not_pay_for_a_slice() -> None:
    losses = candidate(worse=NEWS[:12]).losses.copy()
    losses[:150] = 0.0  # 50 wrong texts of films turn right
    found = judge(Judged("fast", losses, candidate().flips, candidate().metric), rows(), BUDGET, 0.95)
    assert part(found, "overall").estimate < 0
    assert [one.name for one in found.failed(0.05)] == ["domain=news"]


def test_a_small_slice_is_shown_but_not_judged() -> None:
    rare, none = np.arange(TEXTS) < 49, np.zeros(TEXTS, dtype=np.bool_)
    found = judge(candidate(worse=(1, 2)), rows(rare=rare, none=none), BUDGET, 0.95)
    small = part(found, "rare")
    assert (small.judged, small.p_value, small.upper, small.rows) == (False, None, None, 49)
    assert small.estimate == pytest.approx(2 / 49)
    assert small.told == "rare: too small to certify, 49 rows where 50 are needed; 0.04082 was seen"
    assert part(found, "none").told == "none: too small to certify, 0 rows where 50 are needed"
    assert found.failed(0.05) == []


def test_flips_that_cost_nothing_count_too() -> None:
    flips = np.zeros(TEXTS, dtype=np.bool_)
    flips[:40] = True
    found = judge(candidate(flips=flips), rows(), BUDGET, 0.95)
    assert [one.name for one in found.failed(0.05)] == ["flips"]
    assert part(found, "flips").estimate == pytest.approx(40 / 300)


def test_flips_in_parts_of_a_text_are_a_mean() -> None:
    found = judge(candidate(flips=np.full(TEXTS, 0.02)), rows(), BUDGET, 0.95)
    flips = part(found, "flips")
    assert flips.estimate == pytest.approx(0.02)
    assert 0.02 < flips.upper < 0.1
    assert found.failed(0.05) == []


def test_losses_that_are_not_whole_are_judged() -> None:
    half = Rows(np.full(TEXTS, 0.5), False, {})
    found = judge(Judged("fast", np.full(TEXTS, 0.51), candidate().flips, candidate().metric), half, BUDGET, 0.95)
    overall = part(found, "overall")
    assert overall.estimate == pytest.approx(0.01)
    assert 0.01 < overall.upper < 0.05
    assert found.failed(0.05) == []


def test_the_metric_is_bounded_by_its_bootstrap() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 100.0)) / 1000  # 0.001 … 0.099
    metric = part(judge(candidate(metric=MetricLoss("rmse", 0.04, samples)), rows(), BUDGET, 0.95), "RMSE")
    # 5 of 100 places lie at or above the bound: the 4 largest samples above it
    assert metric.upper == pytest.approx(0.095)
    assert metric.p_value == pytest.approx((1 + 50) / 100)
    assert metric.estimate == 0.04


def test_too_few_bootstrap_samples_show_nothing() -> None:
    few = candidate(metric=MetricLoss("macro_f1", 0.0, np.zeros(18)))
    with pytest.raises(LnmtError, match="too few bootstrap samples") as caught:
        judge(few, rows(), BUDGET, 0.95)
    assert caught.value.allowed == "at least 19"
    enough = candidate(metric=MetricLoss("macro_f1", 0.0, np.zeros(19)))
    assert part(judge(enough, rows(), BUDGET, 0.95), "macro-F1").p_value == 0.05


def test_the_sequence_stops_and_says_so() -> None:
    found = certify(
        [candidate("safe"), candidate("bad", NEWS[:9]), candidate("late"), candidate("worse", NEWS[:12])],
        rows(),
        BUDGET,
        0.95,
    )
    assert list(found.order) == list(found.verdicts) == ["safe", "bad", "late", "worse"]
    assert list(found.certified) == ["safe"]
    assert set(found.refused) == {"bad", "late", "worse"}
    assert "; domain=news: loses at most 0.152, more than the 0.1 allowed" in found.refused["bad"]
    assert found.refused["late"] == (
        "not certified: the search stopped before it, at bad, which comes first in the order and failed"
    )
    assert found.refused["worse"].startswith("not certified: overall: loses at most")


def test_all_may_ship_and_none() -> None:
    both = certify([candidate("a"), candidate("b")], rows(), BUDGET, 0.95)
    assert (list(both.certified), both.refused) == (["a", "b"], {})
    none = certify([], rows(), BUDGET, 0.95)
    assert (list(none.certified), none.refused, none.verdicts) == ([], {}, {})


def test_the_safest_is_tested_first() -> None:
    verdicts = [
        judge(one, rows(), BUDGET, 0.95)
        for one in (candidate("bad", NEWS[:9]), candidate("some", NEWS[:1]), candidate("same"), candidate("same too"))
    ]
    # the bootstrap's p-value is the largest of the last three: the slice below it decides
    assert verdicts[1].p_value == verdicts[2].p_value
    assert safest_first(verdicts) == ["same", "same too", "some", "bad"]


def test_a_verdict_is_json() -> None:
    found = judge(candidate(), rows(rare=np.arange(TEXTS) < 9), BUDGET, 0.95).as_json()
    assert json.loads(json.dumps(found)) == found
    assert set(found["parts"][0]) == {"name", "rows", "estimate", "margin", "judged", "upper", "p_value", "told"}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="flips of fast"):
        judge(candidate(flips=np.zeros(9, dtype=np.bool_)), rows(), BUDGET, 0.95)
    with pytest.raises(ValueError, match="short of fast"):
        judge(candidate(), rows(short=np.ones(9, dtype=np.bool_)), BUDGET, 0.95)
    with pytest.raises(ValueError, match="different names"):
        certify([candidate(), candidate()], rows(), BUDGET, 0.95)
