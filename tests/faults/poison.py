"""One request in a hundred holds poison: it gets an error of its own, and nobody beside it notices."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnmt.bundles import Bundle
from lnmt.runtime.predictor import Predictor
from lnmt.types import Prediction
from tests.faults.kit import Outcome
from tests.faults.plugged import make_plugged_project, rebuilt
from tests.faults.wire import Connections, Timed, closed_loop, post
from tests.service_kit import Instance
from tests.tiny_bundle import PIECES, WORDS, tiny_bundle

# What spoils a text: a word at which the engine gives NaN, or an array of a wrong shape, or a processor raises.
POISON = {"not finite": "hate", "wrong shape": "dull", "raises": "poor"}
SHARE = 0.01  # of the requests
CLIENTS = 32
LISTS = 0.3  # of the requests: 2 to 8 texts
TEXTS = 300  # of innocents
TOLERANCE = 1e-4  # of scores, whatever they were batched with


@dataclass(frozen=True)
class Question:
    """A request's texts, and which of them is poisoned with what."""

    texts: list[str]
    listed: bool
    place: int | None = None
    kind: str | None = None


def run(count: int, directory: Path, seed: int, tick: Callable[[], None]) -> Outcome:
    """`count` requests from many clients at once."""
    outcome = Outcome("poison among requests", count)
    plain = tiny_bundle(directory / "plain")
    bundle = rebuilt(plain, directory / "poisoned", engine="poison", processors=[{"name": "raises"}])
    log = directory / "spoilt"
    tokens = {"not_finite": PIECES.index(POISON["not finite"]), "wrong_shape": PIECES.index(POISON["wrong shape"])}
    told = {**tokens, "word": POISON["raises"], "log": str(log)}
    service = Instance(make_plugged_project(directory / "project", bundle, "poisoned", told))
    draw = random.Random(seed)
    pool = innocents(draw)
    questions = ask_about(count, pool, draw)
    try:
        service.await_ready()
        found = asyncio.run(_ask(questions, service.port, tick))
    finally:
        service.kill()
    _judge(outcome, questions, found, expected(plain, pool))
    batches = [int(line) for line in log.read_text(encoding="utf-8").splitlines()]
    outcome.figures["spoilt batches of several texts"] = sum(rows > 1 for rows in batches)
    return outcome


def innocents(draw: random.Random) -> list[str]:
    """Texts without poison, short and long."""
    words = [word for word in WORDS if word not in POISON.values()]
    return sorted({" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(TEXTS)})


def expected(bundle: Bundle, texts: Sequence[str]) -> dict[str, Prediction]:
    """The bundle's own answers, each text alone."""
    predictor = Predictor.open(bundle, threads=1)
    found = {text: predictor.predict([text])[0] for text in texts}
    predictor.close()
    return found


def ask_about(count: int, pool: Sequence[str], draw: random.Random) -> list[Question]:
    """Requests in a drawn order, each kind of poison as often as another."""
    questions = []
    for number in range(count):
        listed = draw.random() < LISTS
        texts = draw.choices(pool, k=draw.randint(2, 8) if listed else 1)
        if number >= SHARE * count:
            questions.append(Question(texts, listed))
            continue
        kind = list(POISON)[number % len(POISON)]
        place = draw.randrange(len(texts))
        texts[place] = f"{texts[place]} {POISON[kind]}"
        questions.append(Question(texts, listed, place, kind))
    draw.shuffle(questions)
    return questions


async def _ask(questions: Sequence[Question], port: int, tick: Callable[[], None]) -> list[Timed]:
    connections = Connections(port)
    requests = [post({"text": asked.texts if asked.listed else asked.texts[0]}) for asked in questions]
    found = await closed_loop(CLIENTS, requests, connections.ask)
    connections.close()
    tick()
    return found


def _judge(
    outcome: Outcome, questions: Sequence[Question], found: Sequence[Timed], answers: Mapping[str, Prediction]
) -> None:
    poisoned, errors = Counter[str](), Counter[str]()
    harmed: list[str] = []
    for asked, one in zip(questions, found, strict=True):
        beside = asked.kind or "nothing"
        rows = _rows(asked, one)
        if rows is None:
            told = f"{one.failure}" if one.reply is None else f"{one.status}, {one.reply.body[:200].decode()}"
            innocent = len(asked.texts) - (asked.place is not None)
            harmed += [f"innocent, beside {beside}: {told}"] * innocent
            if not innocent:
                outcome.failures.append(f"poison, {beside}: {told}")
            continue
        for place, (text, row) in enumerate(zip(asked.texts, rows, strict=True)):
            if place == asked.place:
                poisoned[beside] += 1
                errors[str(row.get("error"))] += 1
                if "error" not in row or "label" in row or "prediction_id" not in row:
                    outcome.failures.append(f"poison, {beside}: no error of its own, but {row}")
            elif (wrong := differs(row, answers[text])) is not None:
                harmed.append(f"innocent, beside {beside}: {wrong}")
    outcome.failures += harmed
    outcome.figures = {
        "innocent texts": sum(len(asked.texts) - (asked.place is not None) for asked in questions),
        "in lists with poison": sum(len(asked.texts) - 1 for asked in questions if asked.place is not None),
        **{f"poison, {kind}": number for kind, number in sorted(poisoned.items())},
        **{f"error {name}": number for name, number in sorted(errors.items())},
        "innocent failures": len(harmed),
    }


def _rows(asked: Question, one: Timed) -> list[dict[str, Any]] | None:
    """The reply's rows; None where it is not what these texts should get."""
    if one.reply is None or one.status != (500 if asked.kind is not None and not asked.listed else 200):
        return None
    rows = one.reply.json() if asked.listed else [one.reply.json()]
    return rows if len(rows) == len(asked.texts) else None


def differs(row: Mapping[str, Any], wanted: Prediction) -> str | None:
    """What is not as the bundle alone would have it; None where all is."""
    if "error" in row:
        return f"error {row['error']}"
    scores: dict[str, float] = row["scores"]
    if scores.keys() != wanted.scores.keys() or row["label"] != max(scores, key=lambda label: scores[label]):
        return f"label {row['label']} of scores {scores}"
    apart = max(abs(scores[label] - score) for label, score in wanted.scores.items())
    return None if apart <= TOLERANCE else f"scores are {apart:.1g} apart"
