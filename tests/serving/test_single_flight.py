from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lnmt.serving.cache import SingleFlight

KEY, OTHER = b"key", b"other"


class Work:
    """Counts its runs; each ends when the test says how."""

    def __init__(self) -> None:
        self.runs: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.runs.append(asyncio.get_running_loop().create_future())
        return await self.runs[-1]


class Refused(Exception):
    pass


class Expired(Exception):
    pass


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def asked(
    flights: SingleFlight[str], work: Callable[[], Awaitable[str]], count: int, key: bytes = KEY
) -> list[asyncio.Task[tuple[str, bool]]]:
    tasks = [asyncio.create_task(flights.run(key, work)) for _ in range(count)]
    await settle()
    return tasks


def test_many_who_ask_for_one_key_share_one_run() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        tasks = await asked(flights, work, 100)
        assert (len(work.runs), len(flights)) == (1, 1)
        work.runs[0].set_result("value")
        assert await asyncio.gather(*tasks) == [("value", False), *[("value", True)] * 99]
        assert len(flights) == 0

    asyncio.run(go())


def test_keys_do_not_wait_for_each_other() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        first, second = await asked(flights, work, 1), await asked(flights, work, 1, OTHER)
        work.runs[1].set_result("of the other")
        assert await second[0] == ("of the other", False)
        assert not first[0].done()
        work.runs[0].set_result("of the key")
        assert await first[0] == ("of the key", False)

    asyncio.run(go())


def test_nothing_is_kept_afterwards() -> None:
    async def go() -> None:
        flights = SingleFlight[str]()
        values = iter(["first", "second"])

        async def work() -> str:
            return next(values)

        assert [await flights.run(KEY, work), await flights.run(KEY, work)] == [("first", False), ("second", False)]

    asyncio.run(go())


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        tasks = await asked(flights, work, 3)
        work.runs[0].set_exception(Refused("no"))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Refused] * 3
        again = await asked(flights, work, 1)
        work.runs[1].set_result("value")
        assert await again[0] == ("value", False)

    asyncio.run(go())


def test_an_error_that_nobody_waits_for_is_not_reported_as_lost() -> None:
    async def go() -> list[dict[str, object]]:
        lost: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))

        async def work() -> str:
            raise Refused

        flights = SingleFlight[str]()
        with pytest.raises(Refused):
            await flights.run(KEY, work)
        del flights
        await settle()
        return lost

    assert asyncio.run(go()) == []


def test_a_follower_who_leaves_takes_nobody_along() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        leader, follower, other = await asked(flights, work, 3)
        follower.cancel()
        await settle()
        assert follower.cancelled()
        assert not work.runs[0].done()
        work.runs[0].set_result("value")
        assert [await leader, await other] == [("value", False), ("value", True)]

    asyncio.run(go())


def test_where_the_leader_leaves_one_follower_takes_over() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        leader, *followers = await asked(flights, work, 4)
        for runs in (2, 3):  # and where that one leaves too, the next
            leader.cancel()
            await settle()
            assert leader.cancelled()
            assert len(work.runs) == runs
            leader, *followers = followers
        work.runs[2].set_result("value")
        assert await asyncio.gather(leader, *followers) == [("value", False), ("value", True)]

    asyncio.run(go())


def test_all_who_leave_leave_nothing_behind() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        tasks = await asked(flights, work, 5)
        for task in reversed(tasks):
            task.cancel()
        await settle()
        assert all(task.cancelled() for task in tasks)
        assert (len(flights), len(work.runs)) == (0, 1)

    asyncio.run(go())


def test_an_error_of_the_leader_alone_is_not_the_followers() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](Expired), Work()
        leader, follower, other = await asked(flights, work, 3)
        work.runs[0].set_exception(Expired())
        await settle()
        with pytest.raises(Expired):
            await leader
        assert len(work.runs) == 2
        work.runs[1].set_result("value")
        assert [await follower, await other] == [("value", False), ("value", True)]

    asyncio.run(go())


def test_a_follower_whose_time_is_up_leaves_alone() -> None:
    async def go() -> None:
        flights, work = SingleFlight[str](), Work()
        leader = (await asked(flights, work, 1))[0]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await flights.run(KEY, work)
        work.runs[0].set_result("value")
        assert await leader == ("value", False)

    asyncio.run(go())
