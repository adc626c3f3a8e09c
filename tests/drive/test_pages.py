from __future__ import annotations

import sys
from pathlib import Path

import httpx
import psutil
import pytest

from lnmt.drive.pages import Page, free_port, pages, running_pages
from lnmt.errors import LnmtError
from lnmt.settings import Settings


def test_pages_are_served_and_nothing_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "reports/validation").mkdir(parents=True)
    (tmp_path / "reports/validation/index.html").write_text("all rows passed")
    settings = Settings(project=tmp_path)
    servers = [page for page in pages(settings) if page.name == "reports"]
    before = set(psutil.Process().children())
    with running_pages(settings, servers) as addresses:
        assert [name for name, _ in addresses] == ["reports"]
        assert httpx.get(addresses[0][1], trust_env=False).text == "all rows passed"
    assert set(psutil.Process().children()) <= before


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    broken = Page("broken", (sys.executable, "-c", "raise SystemExit('no such thing')"), free_port(0), "/")
    with (
        pytest.raises(LnmtError, match=r"(?s)the broken server did not start.*no such thing"),
        running_pages(Settings(project=tmp_path), [broken]),
    ):
        pass


def test_a_taken_port_gives_another() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
