"""Deadlines of 50 ms behind a slow engine, and callers who hang up: nobody waits longer, and no place is lost."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lnmt.bundles import Bundle
from lnmt.text.tokenizer import Tokenizer
from tests.faults.kit import Outcome
from tests.faults.plugged import make_plugged_project, rebuilt
from tests.faults.wire import Connection, Connections, Reply, Timed, capacity, get, open_loop, post, quantile, sample
from tests.service_kit import NAME, Instance
from tests.tiny_bundle import LETTERS, tiny_bundle

BATCH_S, ROW_S, BATCH_ROWS = 0.02, 0.002, 8  # a full batch takes 36 ms: about 220 texts a second
RATE = 300.0  # requests a second: more than it can take
DEADLINE_MS = 50
LIMIT_S = 0.1  # for any answer
LATE = 0.01  # share of the requests that may be answered, or begun, too late
NOTICED_S = 0.02  # until a service must know that a caller has hung up
WAITING_ROWS = 64  # far fewer than there are disconnects
CLIENTS = 16
AT_ONCE = 20  # callers who hang up
EMPTY_S = 10.0  # until nothing waits any more
KEPT = 0.9  # of the capacity, afterwards
LONG = 1000  # so many requests: times are judged


@dataclass
class Asked:
    """Requests by the number in their text. Times in monotonic seconds."""

    sent: dict[int, float] = field(default_factory=dict)
    found: list[Timed] = field(default_factory=list)


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` requests with a deadline, and half as many disconnects."""
    outcome = Outcome(f"deadlines of {DEADLINE_MS} ms, and disconnects", count + count // 2)
    bundle = rebuilt(tiny_bundle(directory / "plain"), directory / "slow", engine="slow")
    log = directory / "ran.jsonl"
    told = {"batch_s": BATCH_S, "row_s": ROW_S, "log": str(log)}
    project = make_plugged_project(directory / "project", bundle, "slow_engine", told)
    service = Instance(project, max_batch_size=str(BATCH_ROWS), max_waiting_rows=str(WAITING_ROWS))
    try:
        service.await_ready()
        asked = asyncio.run(_ask(count, service.port, random.Random(seed)))
        tick()
        _judge_deadlines(asked, ran(log, bundle, range(count)), outcome, strict=count >= LONG)
        leaving = range(count, count + count // 2)
        left = asyncio.run(_hang_up(leaving, service.port, random.Random(seed), outcome, strict=count >= LONG))
        _judge_left(left, ran(log, bundle, leaving), outcome)
        tick()
    finally:
        service.kill()
    return outcome


def text_of(number: int) -> str:
    """A text that no other number has, nor any other token ids: each letter of it is a token."""
    letters = ["x"]
    while number:
        number, letter = divmod(number, len(LETTERS))
        letters.append(LETTERS[letter])
    return " ".join(letters)


def ran(log: Path, bundle: Bundle, asked: range) -> dict[int, tuple[float, float]]:
    """When the engine began and ended each of the texts that it ran, by number."""
    tokenizer = Tokenizer(bundle.file("tokenizer.json"), bundle.manifest.max_tokens)
    rows = tokenizer.encode([text_of(number) for number in asked])
    numbers = {tuple(ids): number for ids, number in zip(rows, asked, strict=True)}
    assert len(numbers) == len(asked)
    found: dict[int, tuple[float, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        batch = json.loads(line)
        found |= {
            numbers[tuple(ids)]: (batch["began"], batch["ended"]) for ids in batch["rows"] if tuple(ids) in numbers
        }
    return found


async def _ask(count: int, port: int, draw: random.Random) -> Asked:
    connections = Connections(port)
    asked = Asked()

    async def ask(number: int) -> Reply:
        request = post({"text": text_of(number)}, f"x-request-timeout-ms: {DEADLINE_MS}")
        asked.sent[number] = time.monotonic()
        return await connections.ask(request)

    asked.found = await open_loop(RATE, count, draw, ask)
    connections.close()
    return asked


def _judge_deadlines(asked: Asked, ran: dict[int, tuple[float, float]], outcome: Outcome, *, strict: bool) -> None:
    statuses = Counter(one.status for one in asked.found)
    outcome.failures += [f"{statuses[status]} × status {status}" for status in statuses.keys() - {200, 504}]
    took = [one.ended - asked.sent[number] for number, one in enumerate(asked.found)]
    slow = sum(seconds > LIMIT_S for seconds in took)
    late = sum(began > asked.sent[number] + DEADLINE_MS / 1000 for number, (began, _) in ran.items())
    expired = {number for number, one in enumerate(asked.found) if one.status == 504}
    outcome.figures = {
        "answered": statuses[200],
        "deadline passed": statuses[504],
        "answered after 100 ms": slow,
        "p99, ms": round(quantile(took, 0.99) * 1000, 1),
        "slowest, ms": round(max(took) * 1000, 1),
        "begun after their deadline": late,
        "run, and ended after their deadline": len(expired & ran.keys()),
    }
    unanswered = {number for number, one in enumerate(asked.found) if one.status == 200} - ran.keys()
    if unanswered:
        outcome.failures.append(f"{len(unanswered)} answers that the engine never gave")
    if strict and slow > LATE * len(took):
        outcome.failures.append(f"{slow} of {len(took)} were answered after more than {LIMIT_S:g} s")
    if strict and late > LATE * len(took):
        outcome.failures.append(f"{late} of {len(took)} were begun after their deadline")


async def _hang_up(
    numbers: range, port: int, draw: random.Random, outcome: Outcome, *, strict: bool
) -> dict[int, float]:
    """When the callers of these texts hung up; those who had sent all of their request."""
    left: dict[int, float] = {}
    connections = Connections(port)
    request = post({"text": "a good film"})
    seconds = 2.0 if strict else 0.5
    await capacity(connections, CLIENTS, 1.0, request)  # the expectation of before came from requests in a hurry
    before = await _able(connections, seconds, request)
    for start in range(0, len(numbers), AT_ONCE):
        await asyncio.gather(*(leave(port, number, draw, left) for number in numbers[start : start + AT_ONCE]))
    waiting = await _waiting(connections)
    after = await _able(connections, seconds, request)
    connections.close()
    outcome.figures |= {
        "disconnects": len(numbers),
        "texts that wait afterwards": waiting,
        "capacity before, 1/s": round(before, 1),
        "capacity afterwards, 1/s": round(after, 1),
    }
    if waiting:
        outcome.failures.append(f"{waiting} texts of callers who left still wait")
    if not after or (strict and after < KEPT * before):
        outcome.failures.append(f"the capacity was {before:.0f}/s, and is {after:.0f}/s")
    return left


def _judge_left(left: dict[int, float], ran: dict[int, tuple[float, float]], outcome: Outcome) -> None:
    spent = sum(began > left[number] + NOTICED_S for number, (began, _) in ran.items() if number in left)
    outcome.figures["begun though its caller had left"] = spent
    if spent > max(1, LATE * len(left)):
        outcome.failures.append(f"{spent} of {len(left)} were begun though their caller had left")


async def _able(connections: Connections, seconds: float, request: bytes) -> float:
    """The best of three: what else the machine does only takes away."""
    return max([await capacity(connections, CLIENTS, seconds, request) for _ in range(3)])


async def leave(port: int, number: int, draw: random.Random, left: dict[int, float]) -> None:
    """Hang up in the middle of the head or the body, right after it, or while the text waits or is computed."""
    request = post({"text": text_of(number)})
    connection = await Connection.open(port)
    sent = draw.randrange(1, len(request)) if draw.random() < 0.3 else len(request)
    await connection.begin(request[:sent])
    await asyncio.sleep(draw.choice((0.0, draw.uniform(0.0, 0.1))))
    connection.hang_up()
    if sent == len(request):
        left[number] = time.monotonic()


async def _waiting(connections: Connections) -> int:
    """What lnmt_waiting_rows says as soon as it is 0, or after a while."""
    ends = time.monotonic() + EMPTY_S
    while True:
        waiting = sample(await connections.ask(get("/metrics")), f'lnmt_waiting_rows{{model="{NAME}"}}')
        if not waiting or time.monotonic() > ends:
            return int(waiting)
        await asyncio.sleep(0.05)
