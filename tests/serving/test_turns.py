from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lnmt.serving.turns import Turn


def test_calls_of_a_turn_are_done_together_and_each_gets_its_own() -> None:
    seen: list[list[int]] = []

    def double(given: Sequence[int]) -> list[int]:
        seen.append(list(given))
        return [2 * one for one in given]

    async def main() -> None:
        turn = Turn(double)
        assert list(await asyncio.gather(turn(1), turn(2), turn(3))) == [2, 4, 6]
        assert await turn(4) == 8

    asyncio.run(main())
    assert seen == [[1, 2, 3], [4]]


def test_what_it_raises_reaches_every_caller_and_the_next_turn_is_whole() -> None:
    def work(given: Sequence[int]) -> Sequence[int]:
        if 0 in given:
            raise OSError("disk")
        return given

    async def main() -> None:
        turn = Turn(work)
        found = await asyncio.gather(turn(0), turn(1), return_exceptions=True)
        assert [type(one) for one in found] == [OSError, OSError]
        assert await turn(1) == 1

    asyncio.run(main())


def test_who_leaves_disturbs_nobody() -> None:
    async def main() -> None:
        turn: Turn[int, int] = Turn(lambda given: given)
        leaving, staying = asyncio.create_task(turn(1)), asyncio.create_task(turn(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 2
        with pytest.raises(asyncio.CancelledError):
            await leaving

    asyncio.run(main())


def test_each_loop_has_its_own_turns() -> None:
    turn: Turn[int, int] = Turn(lambda given: given)
    assert [asyncio.run(_ask(turn, number)) for number in (1, 2)] == [1, 2]


async def _ask(turn: Turn[int, int], number: int) -> int:
    return await turn(number)
