import pytest

from lnmt.errors import DigestMismatch, GateBlocked, LnmtError, Transient, UnknownName


def test_an_error_prints_each_part_it_knows_on_a_line_of_its_own() -> None:
    error = LnmtError("no such column", where="a.csv", value="txt", allowed="text, label", fix="rename it")
    assert str(error).splitlines() == [
        "no such column",
        "  where: a.csv",
        "  value: txt",
        "  allowed: text, label",
        "  fix: rename it",
    ]


def test_parts_that_are_not_known_are_not_printed() -> None:
    assert str(LnmtError("no such column")) == "no such column"


def test_an_unknown_name_offers_the_nearest() -> None:
    error = UnknownName("optimizer", "adamv", ["adamw", "sgd"], where="params.yaml: train")
    assert error.allowed == "adamw, sgd"
    assert error.fix == "did you mean 'adamw'?"


def test_an_unknown_name_far_from_all_offers_the_list() -> None:
    error = UnknownName("optimizer", "zzz", ["adamw", "sgd"])
    assert error.fix == "choose one of the allowed names, or register this optimizer"


@pytest.mark.parametrize(
    ("error", "code"),
    [(LnmtError, 1), (UnknownName, 1), (DigestMismatch, 1), (GateBlocked, 2), (Transient, 75)],
)
def test_exit_codes(error: type[LnmtError], code: int) -> None:
    assert error.exit_code == code
