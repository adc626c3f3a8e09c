from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from starlette.types import Scope

from lnmt.security.keyring import Keyring
from lnmt.security.peppers import Peppers
from lnmt.security.principal import ANONYMOUS, LOCAL, Principal
from lnmt.security.roles import Action, Role, may
from lnmt.security.table import KeyTable
from lnmt.serving.admission import Admission
from lnmt.serving.problems import Problem
from lnmt.serving.rate.bucket import Rate
from lnmt.serving.rate.memory import MemoryLimiter
from tests.conftest import Log


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kit:
    """Real keys, a real keyring, and a clock set by hand."""

    keys: KeyTable
    peppers: Peppers
    keyring: Keyring
    clock: Clock

    def key(self, role: Role, rate_per_s: float | None = None) -> tuple[str, str]:
        """Id and plaintext of a new key, known to the keyring."""
        key, plaintext = self.keys.add("test", role, self.peppers, rate_per_s=rate_per_s)
        self.keyring.refresh()
        return key.id, plaintext

    def admission(self, rate: Rate | None = None) -> Admission:
        return Admission(self.keyring, MemoryLimiter(clock=self.clock), rate)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    peppers = Peppers.of(["a" * 32], where="test")
    with KeyTable(f"sqlite:///{tmp_path / 'lnmt.db'}") as keys:
        yield Kit(keys, peppers, Keyring(keys, peppers), Clock())


def scope(*headers: tuple[str, str], client: tuple[str, int] | None = ("127.0.0.1", 5000), path: str = "/") -> Scope:
    pairs = [(name.lower().encode(), value.encode("utf-8")) for name, value in headers]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs, "client": client}


def admit(admission: Admission, of: Scope, action: Action = "predict") -> Principal:
    return asyncio.run(admission.admit(of, action))


def refused(admission: Admission, of: Scope, action: Action = "predict") -> Problem:
    with pytest.raises(Problem) as caught:
        admit(admission, of, action)
    return caught.value


@pytest.mark.parametrize("form", ["Authorization: Bearer {}", "authorization: bearer  {} ", "X-API-Key: {}"])
def test_a_key_comes_in_either_header(kit: Kit, form: str) -> None:
    identity, key = kit.key("predictor")
    name, value = form.format(key).split(": ", 1)
    assert admit(kit.admission(), scope((name, value))) == Principal(identity, "predictor")


def test_the_same_key_twice_is_one(kit: Kit) -> None:
    identity, key = kit.key("predictor")
    both = scope(("Authorization", f"Bearer {key}"), ("X-API-Key", key))
    assert admit(kit.admission(), both).id == identity


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ([], "no API key"),
        ([("X-API-Key", "{one}"), ("X-API-Key", "{two}")], "several API keys"),
        ([("Authorization", "Bearer {one}"), ("X-API-Key", "{two}")], "several API keys"),
        ([("Authorization", "Bearer {one}"), ("Authorization", "Bearer {two}")], "several API keys"),
        ([("Authorization", "Basic {one}")], "no bearer token"),
        ([("Authorization", "{one}")], "no bearer token"),
        ([("Authorization", "")], "no bearer token"),
        ([("Authorization", "Basic {one}"), ("X-API-Key", "{one}")], "no bearer token"),
        ([("X-API-Key", "é{one}")], "malformed"),
        ([("X-API-Key", "{one}" * 10)], "malformed"),
        ([("X-API-Key", "{one}x")], "not valid here"),
        ([("X-API-Key", "{one}, {two}")], "not valid here"),
        ([("X-API-Key", "")], "not valid here"),
        ([("Authorization", "Bearer ")], "not valid here"),
        ([("Authorization", "Bearer lnmt_000000000000_" + "A" * 43)], "not valid here"),
        ([("Cookie", "key={one}"), ("X-Api-Token", "{one}")], "no API key"),
    ],
)
def test_anything_else_is_401_and_is_not_echoed(kit: Kit, headers: list[tuple[str, str]], what: str, log: Log) -> None:
    keys = {"one": kit.key("admin")[1], "two": kit.key("admin")[1]}
    problem = refused(kit.admission(), scope(*((name, value.format(**keys)) for name, value in headers)))
    assert (problem.status, problem.reason) == (401, "unauthenticated")
    assert what in str(problem.body["error"])
    assert problem.headers["WWW-Authenticate"] == 'Bearer realm="lnmt"'
    told = f"{problem.body} {problem.headers} {log()}"
    assert not any(key.split("_", 2)[2] in told for key in keys.values())


def test_a_revoked_key_is_401_after_the_next_look(kit: Kit) -> None:
    identity, key = kit.key("admin")
    kit.keys.revoke(identity)
    kit.keyring.refresh()
    assert refused(kit.admission(), scope(("X-API-Key", key))).status == 401


@pytest.mark.parametrize("role", get_args(Role))
def test_every_role_meets_the_table(kit: Kit, role: Role) -> None:
    identity, key = kit.key(role)
    for action in get_args(Action):
        if action == "public":
            continue
        if may(role, action):
            assert admit(kit.admission(), scope(("X-API-Key", key)), action).id == identity
        else:
            problem = refused(kit.admission(), scope(("X-API-Key", key)), action)
            assert (problem.status, problem.body["where"]) == (403, f"role {role}")


def test_a_refusal_names_the_roles_that_may(kit: Kit) -> None:
    _, key = kit.key("viewer")
    assert refused(kit.admission(), scope(("X-API-Key", key)), "manage").body["allowed"] == "operator, admin"


def test_public_routes_ask_nobody(kit: Kit) -> None:
    strict = kit.admission(Rate(1e-9, 1))
    for headers in ([], [("X-API-Key", "wrong")], [("Authorization", "Basic x")]):
        assert admit(strict, scope(*headers, client=("10.0.0.5", 5000)), "public") == ANONYMOUS


# --- without a keyring


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("127.0.0.2", 1), ("::1", 1), ("", 0), None])
def test_without_keys_this_machine_may_everything(client: tuple[str, int] | None) -> None:
    for action in get_args(Action):
        if action != "public":
            assert admit(Admission(), scope(client=client), action) == LOCAL


@pytest.mark.parametrize("client", ["10.0.0.5", "172.17.0.1", "2001:db8::1", "fe80::1%eth0"])
def test_without_keys_no_other_machine_is_served(client: str) -> None:
    spoofed = [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")]
    problem = refused(Admission(), scope(*spoofed, client=(client, 5000)))
    assert problem.status == 403
    assert "lnmt keys create" in str(problem.body["fix"])


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://[::1]:3000"])
def test_without_keys_pages_of_this_machine_are_served(origin: str) -> None:
    assert admit(Admission(), scope(("Origin", origin))) == LOCAL


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://localhost.evil.example", "http://localhost:x@evil.example", "null", ""]
)
def test_without_keys_pages_of_other_sites_are_not(origin: str, kit: Kit) -> None:
    problem = refused(Admission(), scope(("Origin", origin)))
    assert (problem.status, problem.body["where"]) == (403, "Origin")
    _, key = kit.key("predictor")
    assert admit(kit.admission(), scope(("Origin", origin), ("X-API-Key", key)))  # a key is proof enough


# --- rate


def test_too_often_is_429_with_the_time_to_wait(kit: Kit) -> None:
    identity, key = kit.key("predictor")
    admission = kit.admission(Rate(0.25, 2))
    for _ in range(2):
        admit(admission, scope(("X-API-Key", key)))
    problem = refused(admission, scope(("X-API-Key", key)))
    assert (problem.status, problem.reason) == (429, "rate limit")
    assert problem.headers == {"Retry-After": "4"}
    assert problem.body == {
        "error": "too many requests",
        "where": f"requests of {identity}",
        "allowed": "0.25 a second, 2 at once",
        "fix": "send again in 4 s",
    }
    kit.clock.now += 4
    admit(admission, scope(("X-API-Key", key)))
    assert refused(admission, scope(("X-API-Key", key))).status == 429


def test_a_limit_is_of_the_key_whatever_else_changes(kit: Kit) -> None:
    _, key = kit.key("predictor")
    _, other = kit.key("predictor")
    admission = kit.admission(Rate(1, 10))

    def ask(turn: int) -> bool:
        disguise: list[Any] = [("X-Forwarded-For", f"10.0.0.{turn}"), ("X-Real-IP", f"10.0.1.{turn}")]
        paths = ("/predict", "/predict/", "/PREDICT", "//predict", "/predict?x")
        carrier = [("X-API-Key", key), ("Authorization", f"Bearer {key}")][turn % 2]
        of = scope(*disguise, carrier, client=(f"10.0.2.{turn}", turn), path=paths[turn % 5])
        with suppress(Problem):
            admit(admission, of, ("predict", "read", "feedback")[turn % 3])
            return True
        return False

    assert sum(ask(turn) for turn in range(100)) == 10
    admit(admission, scope(("X-API-Key", other)))  # has its own


def test_a_key_may_have_a_rate_of_its_own(kit: Kit) -> None:
    _, fast = kit.key("predictor", rate_per_s=5)
    _, slow = kit.key("predictor", rate_per_s=0.5)

    def granted(admission: Admission, key: str) -> int:
        for turn in range(20):
            try:
                admit(admission, scope(("X-API-Key", key)))
            except Problem:
                return turn
        return 20

    assert granted(kit.admission(Rate(1, 3)), fast) == 5
    assert granted(kit.admission(Rate(1, 3)), slow) == 1
    assert granted(kit.admission(), fast) == 5
    _, usual = kit.key("predictor")
    assert granted(kit.admission(Rate(1, 3)), usual) == 3
    assert granted(kit.admission(), usual) == 20


def test_who_is_refused_for_another_reason_pays_nothing(kit: Kit) -> None:
    _, key = kit.key("viewer")
    admission = kit.admission(Rate(1, 1))
    for _ in range(3):
        assert refused(admission, scope(("X-API-Key", key)), "manage").status == 403
    admit(admission, scope(("X-API-Key", key)), "read")
