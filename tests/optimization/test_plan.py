from __future__ import annotations

from typing import Any

import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.optimization.candidate import REFERENCE, Candidate
from lnmt.optimization.plan import list_candidates, settings_of, split_recipe
from lnmt.params import EngineSettings, Plugin
from tests.optimization.conftest import quick

INT8, TRIM = Plugin(name="static_int8"), Plugin(name="trim_vocabulary")


def names(**changes: Any) -> list[str]:
    return [candidate.name for candidate in list_candidates(quick(**changes).optimize)]


def test_the_reference_comes_first_and_once() -> None:
    assert names(engines=["openvino"], precisions=["bf16"], compressions=[]) == ["torch-fp32", "openvino-bf16"]
    assert names(engines=["torch"], precisions=["fp32"], compressions=[]) == ["torch-fp32"]


def test_the_weights_as_trained_are_tried_before_any_recipe() -> None:
    found = names(engines=["torch", "openvino"], precisions=["fp32"], compressions=[[{"name": "trim_vocabulary"}]])
    assert found == ["torch-fp32", "openvino-fp32", "torch-fp32+trim_vocabulary", "openvino-fp32+trim_vocabulary"]


def test_a_compressed_graph_is_for_engines_that_run_it() -> None:
    found = names(engines=["torch", "openvino"], precisions=["fp32"], compressions=[[{"name": "static_int8"}]])
    assert found == ["torch-fp32", "openvino-fp32", "openvino-fp32+static_int8"]


def test_a_recipes_options_are_in_its_name() -> None:
    plain, other = Candidate("openvino", "bf16", (INT8,)), Plugin(name="static_int8", calibration="entropy")
    assert plain.name == "openvino-bf16+static_int8"
    assert Candidate("openvino", "bf16", (other,)).name.startswith("openvino-bf16+static_int8-")
    assert plain.with_settings({"streams": 2, "group_rows": 8}).name == (
        "openvino-bf16+static_int8 group_rows=8 streams=2"
    )


def test_the_graphs_compression_comes_last() -> None:
    assert split_recipe(Candidate("openvino", "fp32", (TRIM, INT8))) == ((TRIM,), INT8)
    assert split_recipe(Candidate("openvino", "fp32", (TRIM,))) == ((TRIM,), None)
    with pytest.raises(LnmtError, match=r"comes last(?s:.*)put 'static_int8' at the end"):
        names(compressions=[[{"name": "static_int8"}, {"name": "trim_vocabulary"}]])


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'openvino'"):
        names(engines=["openvina"])
    with pytest.raises(UnknownName, match="did you mean 'static_int8'"):
        names(compressions=[[{"name": "static_in8"}]])
    with pytest.raises(LnmtError, match="calibratoin"):
        names(compressions=[[{"name": "static_int8", "calibratoin": "entropy"}]])


def test_settings_are_those_that_an_engine_knows() -> None:
    settings = EngineSettings(streams=[1, 2], group_rows=[None, 8])
    openvino, torch = Candidate("openvino", "bf16"), REFERENCE
    for streaming in (openvino, Candidate("onnxruntime", "fp32")):
        assert [one.settings for one in settings_of(streaming, settings, 32)] == [
            {"group_rows": 8},
            {"group_rows": 8, "streams": 2},
        ]
    assert [one.settings for one in settings_of(torch, settings, 32)] == [{"group_rows": 8}]
    assert list(settings_of(openvino, settings, 8)) == []
