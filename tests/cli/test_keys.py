"""`lnmt keys`: made, listed, revoked; the key is shown once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lnmt.cli import run
from lnmt.security.keyring import Keyring
from lnmt.security.peppers import open_peppers
from lnmt.security.table import KeyTable
from lnmt.settings import Settings

CREATE = ["create", "--role", "predictor", "--name", "web shop"]


class Command:
    """The command in one project."""

    def __init__(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings = Settings(project=project)
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What it printed and what it said beside."""
        assert run(["keys", *arguments, "--project", str(self.settings.project)]) == code
        told = self._capsys.readouterr()
        return told.out, told.err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json")[0])

    def holder(self, key: str) -> tuple[str, str, float | None] | None:
        """Who a service takes the holder of this key for."""
        with KeyTable(self.settings.database_url) as keys:
            keyring = Keyring(keys, open_peppers(None, self.settings.state_dir))
            keyring.refresh()
        found = keyring.check(key)
        return None if found is None else (found.id, found.role, found.rate_per_s)


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capsys)


def test_a_key_is_alone_on_standard_output_and_works(keys: Command) -> None:
    out, beside = keys(*CREATE, "--rate", "2.5")
    key = out.removesuffix("\n")
    identity = key.split("_")[1]
    assert keys.holder(key) == (identity, "predictor", 2.5)
    assert beside == f"key {identity}, predictor, for web shop; it is not shown again:\n"


def test_json_has_the_key_and_what_belongs_to_it(keys: Command) -> None:
    made = keys.json(*CREATE)
    key, created = made.pop("key"), made.pop("created")
    assert keys.holder(key) == (made["id"], "predictor", None)
    assert made == {
        "id": key.split("_")[1],
        "name": "web shop",
        "role": "predictor",
        "rate_per_s": None,
        "revoked": None,
    }
    assert created.endswith("Z")


def test_the_list_shows_every_key_and_no_secret(keys: Command) -> None:
    assert "lnmt keys create" in keys("list")[0]
    one = keys.json(*CREATE, "--rate", "20")
    two = keys.json("create", "--role", "viewer", "--name", "grafana")
    keys("revoke", two["id"])
    out, _ = keys("list")
    head, first, second = out.splitlines()
    assert head.split() == ["id", "name", "role", "rate", "created", "revoked"]
    assert first.split() == [one["id"], "web", "shop", "predictor", "20/s", one["created"]]
    assert second.split()[:4] == [two["id"], "grafana", "viewer", two["created"]]
    listed = keys.json("list")
    assert [(key["id"], key["revoked"] is None) for key in listed] == [(one["id"], True), (two["id"], False)]
    stored = {path.name: path.read_bytes() for path in keys.settings.state_dir.rglob("*") if path.is_file()}
    for key in (one["key"], two["key"]):
        secret = key.split("_", 2)[2]
        assert secret not in out + json.dumps(listed)
        assert [name for name, content in stored.items() if secret.encode() in content] == []


def test_a_revoked_key_works_no_longer(keys: Command) -> None:
    made = keys.json(*CREATE)
    out, _ = keys("revoke", made["id"])
    assert out.startswith(f"key {made['id']} of web shop is revoked since 2")
    assert keys.holder(made["key"]) is None
    revoked = keys.json("revoke", made["id"])
    assert revoked["revoked"] is not None
    assert "key" not in revoked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--role", "predicter", "--name", "x"], "did you mean 'predictor'?"),
        (["create", "--role", "viewer", "--name", ""], "not a name for a key"),
        (["create", "--role", "viewer", "--name", "x", "--rate", "0"], "not a rate"),
        (["create", "--role", "viewer"], "--name"),
        (["revoke", "000000000000"], "unknown key '000000000000'"),
        (["revok", "000000000000"], "Did you mean 'revoke'?"),
    ],
)
def test_a_wrong_call_says_what_to_do_and_makes_nothing(keys: Command, arguments: list[str], message: str) -> None:
    _, beside = keys(*arguments, code=1)
    assert message in beside
    assert keys.json("list") == []
