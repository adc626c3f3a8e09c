from collections import OrderedDict
from pathlib import Path

import pytest

from lnmt.errors import LnmtError, UnknownName
from lnmt.plugins import load_plugins
from lnmt.plugins.table import Table


def test_builtin_entries_are_imported_when_asked_for() -> None:
    table: Table[type] = Table("container", {"ordered": "collections:OrderedDict"})
    assert table.get("ordered") is OrderedDict


def test_an_unknown_name_says_what_was_meant() -> None:
    table: Table[type] = Table("container", {"ordered": "collections:OrderedDict"})
    with pytest.raises(UnknownName, match="did you mean 'ordered'"):
        table.get("orderd")


def test_a_name_is_given_once() -> None:
    table: Table[type] = Table("container", {"ordered": "collections:OrderedDict"})

    class Mine:
        pass

    with pytest.raises(LnmtError, match="container 'ordered' is registered twice"):
        table.register("ordered")(Mine)
    table.register("mine")(Mine)
    assert table.names() == ["mine", "ordered"]
    assert table.get("mine") is Mine


def test_plugin_modules_are_found_beside_params_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    (tmp_path / "my_lnmt_plugin.py").write_text("LOADED = True\n")
    import sys

    load_plugins(["my_lnmt_plugin"], tmp_path)
    assert sys.modules["my_lnmt_plugin"].LOADED is True
    del sys.modules["my_lnmt_plugin"]


def test_a_plugin_module_that_is_not_there_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match=r"put no_such_module.py beside params.yaml"):
        load_plugins(["no_such_module"], tmp_path)
