from __future__ import annotations

from pathlib import Path

import pytest

from lnmt import Config
from lnmt.errors import LnmtError, UnknownName
from lnmt.params import load_params

ROOT = Path(__file__).parents[2]


def test_it_holds_what_ships() -> None:
    assert Config().params == load_params(ROOT / "params.yaml")


def test_what_is_not_changed_is_kept_with_its_comments(tmp_path: Path) -> None:
    before = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    Config().update({"train.epochs": 3}).save(tmp_path / "params.yaml")
    after = (tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()
    changed = [(one, two) for one, two in zip(before, after, strict=True) if one != two]
    assert changed == [("  epochs: 1", "  epochs: 3")]


def test_dotted_names_and_sections_are_the_same() -> None:
    dotted = Config().update({"train.batch_size": 8, "train.optimizer": {"name": "sgd", "lr": 0.1}})
    nested = Config().update(train={"batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}})
    assert dotted.params == nested.params
    assert nested["train.optimizer"] == {"name": "sgd", "lr": 0.1}  # a plugin is replaced, not mixed


def test_it_can_be_read_again(tmp_path: Path) -> None:
    config = Config().update({"validate.min_rows": 10, "train.max_gradient_norm": None})
    config.save(tmp_path / "params.yaml")
    assert Config.from_yaml(tmp_path / "params.yaml").params == config.params
    assert config["train.max_gradient_norm"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.epoch": 3}, "train.epoch: unknown parameter; did you mean 'epochs'?"),
        ({"train.epochs": 0}, r"train.epochs: .*\(found 0\)"),
        ({"trian.epochs": 3}, "did you mean 'train'?"),
        ({"train.optimizer.lr.x": 3}, "unknown section 'lr'"),
        ({"trian": {"epochs": 3}}, "trian: unknown parameter; did you mean 'train'?"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change: dict[str, object], message: str) -> None:
    config = Config()
    text = config.text()
    with pytest.raises(LnmtError, match=message):
        config.update({"train.batch_size": 8, **change})
    assert (config.text(), config["train.batch_size"]) == (text, 32)


def test_unknown_names_and_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown parameter 'epoch'") as caught:
        Config()["train.epoch"]
    assert caught.value.fix == "did you mean 'epochs'?"
    with pytest.raises(LnmtError, match=r"no params\.yaml"):
        Config.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "twice.yaml").write_text((ROOT / "params.yaml").read_text() + "\nname: again\n")
    with pytest.raises(LnmtError, match="is not YAML"):
        Config.from_yaml(tmp_path / "twice.yaml")
