"""Writers killed with SIGKILL in the middle of swaps."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore

KILLS = 20
ASKED_FOR = [
    Deployment("sentiment", 0, "promoted", "sha256:a", None, 0.0, 1.0, "one"),
    Deployment("sentiment", 0, "canary", "sha256:a", "sha256:b", 0.5, 2.0, "two"),
    Deployment("sentiment", 0, "rolled back", "sha256:a", None, 0.0, 3.0, "three"),
]


def _swap_forever(database_url: str, acknowledged: Connection) -> None:
    with DeploymentStore(database_url) as store:
        live = store.read("sentiment")
        generation = 0 if live is None else live.generation
        while True:
            generation = store.swap(generation, ASKED_FOR[generation % len(ASKED_FOR)]).generation
            acknowledged.send(generation)


def _settled(database_url: str) -> tuple[Deployment | None, list[Deployment]]:
    """Row and history of one moment: a server may still be committing for a client that is gone."""
    with DeploymentStore(database_url) as store:
        while True:
            live, history = store.read("sentiment"), store.history("sentiment")
            if store.read("sentiment") == live:
                return live, history


def test_a_killed_writer_leaves_one_of_the_states_that_were_asked_for(database_url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "lnmt.rollout.table", "psycopg"])
    dice = random.Random(7)
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        writer = context.Process(target=_swap_forever, args=(database_url, theirs))
        writer.start()
        theirs.close()
        last = 0
        for _ in range(dice.randint(1, 4)):
            last = ours.recv()
        time.sleep(dice.uniform(0, 0.005))  # somewhere in the next swap
        writer.kill()
        writer.join()
        while True:  # what was acknowledged up to the kill
            try:
                last = ours.recv()
            except EOFError:
                break
        ours.close()
        live, history = _settled(database_url)
        assert live is not None
        assert last <= live.generation <= last + 1
        assert history[-1] == live
        assert [state.generation for state in history] == list(range(1, live.generation + 1))
        assert all(replace(state, generation=0) == ASKED_FOR[(state.generation - 1) % 3] for state in history)
