from pathlib import Path
from typing import Any

import pytest
import yaml

from lnmt.errors import LnmtError
from lnmt.params import Params, load_params, parse_params

SHIPPED = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def raw() -> Any:
    return yaml.safe_load(SHIPPED.read_text())


def test_no_parameter_has_a_default_in_code_but_for_alternatives() -> None:
    # `Bin` and `Gate` have optional halves: of `at_least` and `at_most` a person writes one.
    with_default = {name for name, field in Params.model_fields.items() if not field.is_required()}
    assert with_default == set()


def test_a_misspelt_parameter_is_told_with_its_place_and_the_nearest_name(raw: Any) -> None:
    raw["train"]["epoch"] = 3
    with pytest.raises(LnmtError, match=r"train.epoch: unknown parameter; did you mean 'epochs'\?"):
        parse_params(raw, where=SHIPPED)


def test_a_misspelt_parameter_inside_a_source_is_found(raw: Any) -> None:
    raw["ingest"]["sources"][0]["encodin"] = "utf-8"
    with pytest.raises(LnmtError, match=r"encodin: unknown parameter; did you mean 'encoding'\?"):
        parse_params(raw, where=SHIPPED)


def test_every_problem_is_told_at_once(raw: Any) -> None:
    raw["train"]["precision"] = "fp8"
    raw["process"]["split"]["train"] = 0.9
    del raw["validate"]["min_rows"]
    with pytest.raises(LnmtError) as caught:
        parse_params(raw, where=SHIPPED)
    message = str(caught.value)
    assert "train.precision: Input should be 'auto', 'fp32', 'bf16' or 'fp16' (found 'fp8')" in message
    assert "must sum to 1" in message
    assert "validate.min_rows: Field required" in message


def test_a_gate_has_exactly_one_rule(raw: Any) -> None:
    raw["gate"] = [{"metric": "macro_f1", "at_least": 0.7, "at_most": 0.9}]
    with pytest.raises(LnmtError, match="exactly one of"):
        parse_params(raw, where=SHIPPED)


def test_a_stage_cannot_read_a_section_it_did_not_declare() -> None:
    view = load_params(SHIPPED).only(("train",))
    assert view.train.batch_size == 32
    with pytest.raises(AttributeError, match="process"):
        view.process  # noqa: B018  # reading it is the test


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="lnmt init"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("name: a\ntrain: {epochs: [1\n")
    with pytest.raises(LnmtError, match="line 3"):
        load_params(path)
