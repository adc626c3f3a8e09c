"""The pages of a real service in headless Chromium, which reaches nothing but this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from lnmt.bundles import Bundle
from tests.browser import Browser, browser, find_chromium
from tests.service_kit import Instance, make_service_project

TEXT = "a good film"
PREDICTED = "!document.getElementById('answer').hidden"
FAILED = "document.getElementById('error').textContent"
SCORES = """Object.fromEntries(
    [...document.querySelectorAll("#scores .row")].map((row) => [row.firstChild.textContent, row.lastChild.textContent])
)"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    with browser(program, tmp_path / "profile") as page:
        yield page


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, champion: Bundle) -> Iterator[Instance]:
    instance = Instance(make_service_project(tmp_path_factory.mktemp("open") / "project", champion))
    yield from _running(instance)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, champion: Bundle) -> Iterator[Instance]:
    instance = Instance(make_service_project(tmp_path_factory.mktemp("keyed") / "project", champion), auth="true")
    yield from _running(instance)


@pytest.fixture
def silent(tmp_path: Path, champion: Bundle) -> Iterator[Instance]:
    """A service that withholds every answer."""
    project = make_service_project(tmp_path / "project", champion)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["serve"]["postprocessors"] = [{"name": "abstain", "below": 1.0}]
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    yield from _running(Instance(project))


def _running(instance: Instance) -> Iterator[Instance]:
    try:
        instance.await_ready()
        yield instance
    finally:
        instance.kill()


def check_answer(page: Browser, service: Instance, key: str | None = None) -> None:
    """What the page shows is what the service says of this text."""
    headers = {} if key is None else {"X-API-Key": key}
    reply = httpx.post(f"{service.url}/predict", json={"text": TEXT}, headers=headers, trust_env=False).json()
    assert page.value("document.getElementById('label').textContent") == reply["label"]
    assert page.value(SCORES) == {label: f"{score:.3f}" for label, score in reply["scores"].items()}
    assert page.value(FAILED) == ""
    assert page.problems == []
    assert all(url.startswith(f"{service.url}/") for url in page.requested), page.requested


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_text_is_typed_and_its_label_and_scores_are_seen(page: Browser, service: Instance, path: str) -> None:
    page.open(service.url + path)
    page.wait("document.querySelectorAll('#routes tr').length > 5")
    assert page.value("document.getElementById('keyed').hidden") is True
    page.type("#text", TEXT)
    page.click("#send")
    page.wait(PREDICTED)
    check_answer(page, service)


def test_the_true_label_is_told_with_a_click(page: Browser, service: Instance) -> None:
    page.open(f"{service.url}/")
    page.type("#text", TEXT)
    page.click("#send")
    page.wait(PREDICTED)
    page.click("#truth button")
    page.wait("document.getElementById('thanks').textContent.startsWith('kept: ')")


def test_a_withheld_answer_is_told_and_not_asked_about(page: Browser, silent: Instance) -> None:
    page.open(f"{silent.url}/")
    page.type("#text", TEXT)
    page.click("#send")
    page.wait(PREDICTED)
    assert page.value("document.getElementById('label').textContent") == "withheld: the score is below 1"
    assert page.value(SCORES) == {}
    assert page.value("document.getElementById('asked').hidden") is True
    assert page.value(FAILED) == ""


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_key_is_asked_for_and_then_works(page: Browser, keyed: Instance, path: str) -> None:
    key = _make_key(keyed)
    page.open(keyed.url + path)
    page.type("#text", TEXT)
    page.click("#send")
    page.wait(f"{FAILED}.startsWith('no API key')")
    assert page.value(PREDICTED) is False
    page.type("#key", key)
    page.click("#send")
    page.wait(PREDICTED)
    check_answer(page, keyed, key)
    assert key not in "".join(page.requested), "a key in an address would stand in logs"


def test_a_refusal_is_told_on_the_page(page: Browser, service: Instance) -> None:
    page.open(f"{service.url}/")
    page.type("#text", "   ")
    page.click("#send")
    page.wait(f"{FAILED}.startsWith('the text is empty')")
    assert page.value(PREDICTED) is False


def _make_key(service: Instance) -> str:
    """As who runs the service makes one; it is known to the worker when this returns."""
    flags = ["--role", "predictor", "--name", "browser", "--project", str(service.log.parent)]
    command = [sys.executable, "-m", "lnmt", "keys", "create", *flags]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    while httpx.get(f"{service.url}/models", headers={"X-API-Key": key}, trust_env=False).status_code == 401:
        assert service.process.poll() is None, service.log.read_text()
    return key
