"""Names of installed packages beside names that modules register."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.plugins import load_plugins
from lnmt.plugins.table import Table

SOURCE = """
import tests.api.test_plugins as here

@here.BOXES.register("shiny")
class Shiny:
    pass
"""
BOXES: Table[type] = Table("box", {})


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the entry point `shiny`."""
    info = tmp_path / "shiny_box-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shiny-box\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lnmt.box]\nshiny = shiny_box:Shiny\n")
    (tmp_path / "shiny_box.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tests.api.test_plugins.BOXES", Table("box", {}))
    monkeypatch.delitem(__import__("sys").modules, "shiny_box", raising=False)
    return tmp_path


def boxes() -> Table[type]:
    import tests.api.test_plugins as here

    return here.BOXES


def test_a_module_may_be_installed_and_named_in_params_yaml(package: Path) -> None:
    load_plugins(["shiny_box"], package)
    assert boxes().names() == ["shiny"]
    assert boxes().get("shiny").__name__ == "Shiny"


def test_installed_alone_it_is_imported_when_asked_for(package: Path) -> None:
    import sys

    assert boxes().names() == ["shiny"]
    assert "shiny_box" not in sys.modules
    assert boxes().get("shiny").__module__ == "shiny_box"


def test_two_that_give_one_name_are_refused_every_time(package: Path) -> None:
    @boxes().register("shiny")
    class Dull:
        pass

    for _ in range(2):
        with pytest.raises(LnmtError, match="box 'shiny' is registered twice") as caught:
            boxes().names()
        assert caught.value.where == "entry point shiny_box:Shiny"
