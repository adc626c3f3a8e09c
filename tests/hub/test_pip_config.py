"""pip's configuration, from pip and without it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lnmt.hub.pip_config import (
    PipConfig,
    choose,
    config_files,
    default_index,
    parse_list,
    read_environment,
    read_files,
    read_pip_config,
)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipConfig:
    """A pip.conf and variables, and what is to be read from them."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://weak.example/simple\ntimeout = 3\n"
        f"extra-index-url = https://one.example/simple\n  https://two.example/simple file://{tmp_path}/gone/simple\n"
        f"find-links = {tmp_path}/wheels {tmp_path}/gone\ntrusted_host = one.example\n"
        "[download]\ntimeout = 7\n[list]\ntimeout = 99\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:p'w@strong.example/simple")
    monkeypatch.setenv("PIP_CERT", "/etc/ca.pem")
    return PipConfig(
        index_urls=(
            "https://user:p'w@strong.example/simple",
            "https://one.example/simple",
            "https://two.example/simple",
        ),
        find_links=(f"{tmp_path}/wheels",),
        trusted_hosts=("one.example",),
        cert="/etc/ca.pem",
        client_cert=None,
        proxy=None,
        timeout_s=7.0,
    )


def test_pip_is_asked(configured: PipConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lnmt.hub.pip_config.config_files", lambda _: pytest.fail("pip was not asked"))
    assert read_pip_config() == configured


def test_without_pip_its_files_and_variables_are_read(configured: PipConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = subprocess.CompletedProcess([], 1, "", "No module named pip")
    monkeypatch.setattr("lnmt.hub.pip_config.subprocess.run", lambda *_, **__: missing)
    monkeypatch.setattr("lnmt.hub.pip_config.config_files", lambda environment: [Path(environment["PIP_CONFIG_FILE"])])
    assert read_pip_config() == configured


def test_nothing_configured() -> None:
    config = choose([])
    assert (config.index_urls, config.find_links, config.timeout_s) == ((default_index(),), (), 15.0)


def test_no_index_leaves_the_find_links(tmp_path: Path) -> None:
    config = choose([("global", "no-index", "true"), ("global", "find-links", str(tmp_path))])
    assert (config.index_urls, config.find_links) == ((), (str(tmp_path),))


def test_lines_of_pip_config_list() -> None:
    lines = "global.index-url='https://a.b/simple'\n:env:.find-links=\"/it's/here\"\nnot a line\n"
    assert parse_list(lines) == [("global", "index-url", "https://a.b/simple"), (":env:", "find-links", "/it's/here")]


def test_files_and_variables() -> None:
    assert config_files({"PIP_CONFIG_FILE": os.devnull}) == []
    files = config_files({"HOME": "/home/me", "PIP_CONFIG_FILE": "/named.conf"})
    assert files[:2] == [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf")]
    assert files[2:4] == [Path("/home/me/.pip/pip.conf"), Path("/home/me/.config/pip/pip.conf")]
    assert files[-1] == Path("/named.conf")
    assert read_files([Path("/does/not/exist")]) == []
    assert read_environment({"PIP_NO_INDEX": "1", "PIPX": "x", "PIP_CERT": ""}) == [(":env:", "no-index", "1")]
