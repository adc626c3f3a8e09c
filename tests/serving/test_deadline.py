from __future__ import annotations

import math
import time

import pytest

from lnmt.serving.deadline import deadline
from lnmt.serving.problems import Problem
from tests.serving.conftest import Kit


def scope(*values: bytes) -> dict[str, object]:
    return {"headers": [(b"x-request-timeout-ms", value) for value in values]}


def test_without_a_header_the_services_own_holds() -> None:
    before = time.monotonic()
    assert before + 30 <= deadline(scope(), 30) <= time.monotonic() + 30


def test_a_caller_may_ask_for_less_but_not_for_more() -> None:
    before = time.monotonic()
    assert before + 0.25 <= deadline(scope(b"250"), 30) <= time.monotonic() + 0.25
    assert deadline(scope(b"999999999"), 30) <= time.monotonic() + 30
    assert deadline(scope(b"1000", b"500"), math.inf) <= time.monotonic() + 0.5


@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"1.5", b"soon", b"9999999999", "١".encode()])
def test_what_is_no_time_is_refused(value: bytes) -> None:
    with pytest.raises(Problem, match="no time"):
        deadline(scope(value), 30)


def test_it_is_refused_over_http(kit: Kit) -> None:
    reply = kit.client.post("/predict", json={"text": "okay"}, headers={"X-Request-Timeout-Ms": "soon"})
    assert (reply.status_code, reply.json()["where"]) == (422, "X-Request-Timeout-Ms")
