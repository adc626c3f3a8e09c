"""Every route × every role, made from the table of routes, with real keys in a real database: nothing but the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
from starlette.testclient import TestClient

from lnmt.bundles import Bundle
from lnmt.security.keyring import Keyring
from lnmt.security.peppers import Peppers
from lnmt.security.roles import Action, Role, may
from lnmt.security.table import KeyTable
from lnmt.serving.admission import Admission
from lnmt.serving.app import create_app
from tests.serving.conftest import NAME, Kit, MakeKit

ROLES: tuple[Role, ...] = get_args(Role)
BODY = {"text": "okay"}
TENSOR = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["okay"]}]}


@dataclass
class Keyed:
    """A service that asks for keys, with one of each role."""

    kit: Kit
    client: TestClient
    keys: dict[Role, str]
    revoked: str  # of an admin
    version: str  # that is live

    def status(self, method: str, path: str, key: str | None) -> int:
        """Of a request that would be answered if its caller may send it."""
        headers = {} if key is None else {"X-API-Key": key}
        body = TENSOR if path.endswith("/infer") else BODY if path == "/predict" else {}
        if path == "/feedback":
            body = {"prediction_id": self.prediction_id, "label": "positive"}
        path = path.replace("{name}", NAME).replace("{version}", self.version)
        url = "http://testserver" + path  # whole: `//models` alone would name another host
        return self.client.request(method, url, headers=headers, json=body if method == "POST" else None).status_code

    @property
    def prediction_id(self) -> str:
        reply = self.client.post("/predict", json=BODY, headers={"X-API-Key": self.keys["admin"]})
        return str(reply.json()["prediction_id"])


@pytest.fixture
def keyed(make_kit: MakeKit, champion: Bundle, tmp_path: Path) -> Iterator[Keyed]:
    kit = make_kit()
    kit.release(1, champion)
    peppers = Peppers.of(["a" * 32], where="test")
    with KeyTable(f"sqlite:///{tmp_path / 'keys.db'}") as table:
        keys = {role: table.add("test", role, peppers)[1] for role in ROLES}
        gone, revoked = table.add("left", "admin", peppers)
        keyring = Keyring(table, peppers)
        keyring.refresh()
        app = create_app(replace(kit.handlers, admission=Admission(keyring)))
        client = TestClient(app)
        assert client.get("/models", headers={"X-API-Key": revoked}).status_code == 200, "it was a key"
        table.revoke(gone.id)
        keyring.refresh()
        yield Keyed(kit, client, keys, revoked, champion.digest)


def test_every_route_answers_the_roles_of_its_action_and_no_other(keyed: Keyed) -> None:
    wrong = []
    for method, path, action, _ in keyed.kit.handlers.table():
        for role, key in keyed.keys.items():
            status = keyed.status(method, path, key)
            if (status != 403) is not may(role, action) or status == 401 or status >= 500:
                wrong.append((method, path, role, status))
    assert wrong == []


def test_what_a_role_may_do_is_done(keyed: Keyed) -> None:
    """403 and no other refusal: so that a route that never answers does not pass for one that is guarded."""
    own = f"/models/{NAME}/unload"  # nobody may: the service's own model stays
    found = {
        (method, path): keyed.status(method, path, keyed.keys["admin"])
        for method, path, _, _ in keyed.kit.handlers.table()
    }
    unload = found.pop(("POST", own.replace(NAME, "{name}")))
    assert unload == 409
    assert set(found.values()) == {200}


def test_no_route_but_the_public_ones_answers_without_a_valid_key(keyed: Keyed) -> None:
    admin = keyed.keys["admin"]
    other = admin[:-1] + ("A" if admin[-1] != "A" else "B")
    callers = {"no key": None, "another secret": other, "no form of a key": "admin", "a revoked key": keyed.revoked}
    wrong = []
    for method, path, action, _ in keyed.kit.handlers.table():
        for what, key in callers.items():
            status = keyed.status(method, path, key)
            if (status != 401) is not (action == "public") or (action == "public" and status != 200):
                wrong.append((method, path, what, status))
    assert wrong == []


def test_other_methods_and_spellings_open_no_route(keyed: Keyed) -> None:
    """What the router does not match is answered without a look at the caller, and so never by a handler."""
    open_to = {(method, path) for method, path, action, _ in keyed.kit.handlers.table() if action == "public"}
    for method, path, action, _ in keyed.kit.handlers.table():
        if action == "public":
            continue
        for other in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if other != method and not (other == "HEAD" and method == "GET") and (other, path) not in open_to:
                assert keyed.status(other, path, None) == 405, (other, path)
        for spelt in (path + "/", path.upper(), "/" + path, path + "?key=x", path + ";a", path.replace("/", "/./", 1)):
            assert keyed.status(method, spelt, None) in (401, 404, 405), spelt


def test_every_action_and_role_stands_on_a_route(keyed: Keyed) -> None:
    assert {action for _, _, action, _ in keyed.kit.handlers.table()} == set(get_args(Action))
    assert set(keyed.keys) == set(get_args(Role))
