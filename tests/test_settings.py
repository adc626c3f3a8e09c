from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.settings import Settings, find_project


def test_state_lies_in_the_project_unless_said_otherwise(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path)
    assert settings.state_dir == tmp_path / ".lnmt"
    assert settings.database_url == f"sqlite:///{tmp_path}/.lnmt/lnmt.db"
    assert Settings(project=tmp_path, state=tmp_path / "x").bundles_dir == tmp_path / "x" / "bundles"


def test_the_environment_names_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LNMT_STORE_TEXT", "true")
    monkeypatch.setenv("LNMT_DATABASE", "postgresql+psycopg://db/lnmt")
    settings = Settings(project=tmp_path)
    assert settings.store_text is True
    assert settings.database_url == "postgresql+psycopg://db/lnmt"


def test_a_project_is_found_from_inside(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_project(tmp_path / "a" / "b") == tmp_path


def test_outside_of_a_project_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="lnmt init"):
        find_project(tmp_path)
