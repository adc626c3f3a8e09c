"""The client against a real HTTP server: connections, time, many texts; and its examples."""

from __future__ import annotations

import asyncio
import doctest
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lnmt.client
from lnmt.client import AsyncClient, Client
from lnmt.errors import LnmtError, Transient
from tests.keep_alive_server import Received, Reply, keep_alive_server


def film_critic(request: Received) -> Reply:
    """A service that knows films: "fine" is positive."""

    def row(text: str) -> dict[str, Any]:
        label = "positive" if "fine" in text else "negative"
        traced = {"version": "sha256:1", "arm": "champion", "prediction_id": f"of {text}"}
        return {"label": label, "scores": {label: 1.0}, **traced}

    match request.path:
        case "/predict":
            text = request.body["text"]
            return Reply(row(text) if isinstance(text, str) else [row(one) for one in text])
        case "/models":
            model = {"name": "sentiment", "state": "ready", "generation": 1, "champion": "sha256:1", "bytes": 9}
            return Reply({"models": [model]})
        case "/feedback" | "/readyz":
            return Reply(request.body)
    return Reply({"error": "no such route", "fix": "none"}, 404)


@pytest.fixture
def critic() -> Iterator[str]:
    with keep_alive_server(film_critic) as server:
        yield server.url


def test_one_connection_serves_call_after_call() -> None:
    with keep_alive_server(film_critic) as server, Client(server.url) as client:
        for number in range(20):
            assert client.predict(f"{number}").prediction_id == f"of {number}"
        assert (client.ready(), server.connections) == (True, 1)


def test_as_many_connections_as_calls_at_once_and_no_more() -> None:
    """50 calls are in flight together three times over: none of the connections was closed in between."""
    together = threading.Barrier(50, timeout=60)

    def respond(request: Received) -> Reply:
        together.wait()
        return film_critic(request)

    async def go(url: str) -> None:
        async with AsyncClient(url) as client:
            for round_ in range(3):
                texts = [f"{round_} {number}" for number in range(50)]
                found = await asyncio.gather(*map(client.predict, texts))
                assert [answer.prediction_id for answer in found] == [f"of {text}" for text in texts]

    with keep_alive_server(respond) as server:
        asyncio.run(go(server.url))
        assert server.connections == 50


def test_threads_may_share_a_client() -> None:
    texts = [f"text {number}" for number in range(200)]
    with keep_alive_server(film_critic) as server, Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: client.predict(text).prediction_id, texts))
        assert found == [f"of {text}" for text in texts]
        assert server.connections <= 8


def test_a_connection_that_went_stale_is_replaced() -> None:
    """The server hangs up on every second request of a connection, as one does whose patience has just ended."""

    def respond(request: Received) -> Reply | None:
        return film_critic(request) if request.turn == 1 else None

    def never(seconds: float) -> None:
        assert seconds == 0, "no wait is due"

    with keep_alive_server(respond) as server, Client(server.url, retries=0, sleep=never) as client:
        assert [client.predict(f"{number}").prediction_id for number in range(4)] == [f"of {n}" for n in range(4)]
        assert server.connections == 4


def test_retry_after_is_kept_on_the_wire() -> None:
    slept: list[float] = []

    def respond(request: Received) -> Reply:
        if request.turn <= 2:
            return Reply({"error": "busy"}, 429, {"Retry-After": str(request.turn * 2)})
        return film_critic(request)

    with keep_alive_server(respond) as server, Client(server.url, sleep=slept.append) as client:
        assert client.predict("fine").label == "positive"
        assert (slept, server.connections) == ([2.0, 4.0], 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_service_that_never_answers_is_left_in_time(kind: str) -> None:
    over = threading.Event()

    def respond(request: Received) -> Reply | None:
        over.wait(60)
        return None

    with keep_alive_server(respond) as server:
        try:
            with pytest.raises(Transient, match="did not answer in time"):
                if kind == "sync":
                    Client(server.url, timeout_s=0.2).predict("okay")
                else:
                    asyncio.run(AsyncClient(server.url, timeout_s=0.2).predict("okay"))
        finally:
            over.set()


# many texts


def test_map_gives_answers_in_order_and_takes_no_more_texts_than_it_may(critic: str) -> None:
    taken: list[str] = []

    def texts() -> Iterator[str]:
        for number in range(20):
            taken.append(f"{number}")
            yield taken[-1]

    async def go() -> None:
        found: list[str] = []
        async with AsyncClient(critic) as client:
            async for answer in client.map(texts(), concurrency=4):
                found.append(answer.prediction_id)
                assert len(taken) <= len(found) + 4
        assert found == [f"of {number}" for number in range(20)]

    asyncio.run(go())


def test_map_sends_so_many_at_a_time() -> None:
    """Each reply waits for three others: with fewer at a time none would come."""
    together = threading.Barrier(4, timeout=60)

    def respond(request: Received) -> Reply:
        together.wait()
        return film_critic(request)

    async def go(url: str) -> int:
        async with AsyncClient(url, retries=0) as client:
            return len([answer async for answer in client.map(map(str, range(16)), concurrency=4)])

    with keep_alive_server(respond) as server:
        assert asyncio.run(go(server.url)) == 16
        assert server.connections == 4


def test_map_raises_where_a_text_fails_and_gives_up_the_rest() -> None:
    def respond(request: Received) -> Reply:
        if request.body["text"] == "3":
            return Reply({"error": "too long", "where": "text"}, 422)
        return film_critic(request)

    async def go(url: str) -> list[str]:
        found: list[str] = []
        async with AsyncClient(url) as client:
            with pytest.raises(LnmtError, match="422: too long"):
                async for answer in client.map(map(str, range(100)), concurrency=5):
                    found.append(answer.prediction_id)
            assert len(asyncio.all_tasks()) == 1
        return found

    with keep_alive_server(respond) as server:
        assert asyncio.run(go(server.url)) == ["of 0", "of 1", "of 2"]


def test_map_needs_room_for_one(critic: str) -> None:
    async def go() -> None:
        async with AsyncClient(critic) as client:
            with pytest.raises(LnmtError, match="no request may be sent"):
                await anext(client.map(["a"], concurrency=0))

    asyncio.run(go())


# examples


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_its_examples_run(name: str, critic: str) -> None:
    names = {**vars(lnmt.client), "url": critic}
    tests = [one for one in doctest.DocTestFinder().find(getattr(lnmt.client, name), name, globs=names) if one.examples]
    assert tests, f"{name} shows no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in tests:
        runner.run(one, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_the_blocks_of_its_page_run(critic: str, repository: Path) -> None:
    page = repository / "docs/reference/client.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block.replace("http://127.0.0.1:3000", critic), str(page), "exec"), names)
    assert names["labels"] == ["positive", "negative"]
