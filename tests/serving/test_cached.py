"""The cache in the path of a request: real app, real tiny engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from lnmt.bundles import Bundle
from lnmt.serving.cache.memory import MemoryCache
from tests.serving.conftest import Kit, MakeKit


@pytest.fixture
def kit(make_kit: MakeKit, champion: Bundle) -> Kit:
    kit = make_kit(cache=MemoryCache(2**20))
    kit.release(1, champion)
    return kit


def lookups(kit: Kit) -> dict[str, float]:
    return {
        outcome: kit.metric("lnmt_cache_lookups_total", model="sentiment", outcome=outcome)
        for outcome in ("hit", "miss", "joined")
    }


def ask(kit: Kit, text: object) -> object:
    return kit.client.post("/predict", json={"text": text}).json()


def without_id(answer: object) -> dict[str, object]:
    assert isinstance(answer, dict)
    return {name: value for name, value in answer.items() if name != "prediction_id"}


def test_a_known_text_is_answered_from_the_cache_with_an_event_of_its_own(kit: Kit) -> None:
    first, second = ask(kit, "a good film"), ask(kit, "a good film")
    assert without_id(first) == without_id(second)
    assert first != second
    assert lookups(kit) == {"hit": 1, "miss": 1, "joined": 0}
    events = kit.events()
    assert [(event.cached, event.batch_rows) for event in events] == [(False, 1), (True, 0)]
    assert events[0].scores == events[1].scores
    assert events[0].pooled == pytest.approx(events[1].pooled, abs=1e-6)
    assert kit.metric("lnmt_engine_seconds_count", model="sentiment", engine="torch") == 1


def test_a_list_asks_the_engine_for_what_is_new_in_it(kit: Kit) -> None:
    ask(kit, "okay")
    rows = ask(kit, ["okay", "good", "awful", "good"])
    assert isinstance(rows, list)
    assert [event.cached for event in kit.events()] == [False, True, False, False, True]
    assert without_id(rows[1]) == without_id(rows[3])
    assert lookups(kit) == {"hit": 1, "miss": 3, "joined": 1}


def test_another_bundle_has_other_answers(kit: Kit, champion: Bundle, challenger: Bundle) -> None:
    ask(kit, "okay")
    kit.release(2, challenger)
    answer = ask(kit, "okay")
    assert isinstance(answer, dict)
    assert answer["version"] == challenger.digest
    assert lookups(kit)["hit"] == 0


def test_one_text_of_many_requests_at_once_is_run_once(kit: Kit) -> None:
    async def crowd() -> list[object]:
        return list(await asyncio.gather(*(kit.core.predict(["a dull plot"], None) for _ in range(20))))

    asyncio.run(crowd())
    assert lookups(kit) == {"hit": 0, "miss": 1, "joined": 19}
    assert len({event.id for event in kit.events()}) == 20
    assert kit.metric("lnmt_batch_rows_sum", model="sentiment") == 1


def test_a_failure_is_not_kept(make_kit: MakeKit, champion: Bundle, broken: Callable[..., object]) -> None:
    kit = make_kit(cache=MemoryCache(2**20), open_predictor=broken)
    kit.release(1, champion)
    for _ in range(2):
        answer = ask(kit, "awful")
        assert isinstance(answer, dict)
        assert answer["error"] == "ValueError"
    assert lookups(kit) == {"hit": 0, "miss": 2, "joined": 0}
