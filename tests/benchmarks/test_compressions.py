from __future__ import annotations

from benchmarks.compressions import label, listed, quick
from lnmt.optimization.candidate import recipe_name
from lnmt.optimization.plan import list_candidates
from tests.optimization.conftest import quick as few_rounds


def test_every_recipe_is_one_that_the_search_takes() -> None:
    params = few_rounds(compressions=[[plugin.model_dump() for plugin in recipe] for recipe in listed()])
    found = list_candidates(quick(params, 60).optimize)
    assert {recipe_name(recipe) for recipe in listed()} <= {recipe_name(one.compressions) for one in found}


def test_labels_tell_recipes_apart() -> None:
    labels = [label(recipe) for recipe in listed()]
    assert len(set(labels)) == len(labels)
    assert {"prune_heads parameters=0.3", "qat + static_int8"} <= set(labels)
