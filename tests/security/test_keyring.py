from __future__ import annotations

import math
import multiprocessing
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from sqlalchemy import event

from lnmt.security.keyring import REFRESH_S, STALE_S, Keyring
from lnmt.security.keys import mint
from lnmt.security.peppers import Peppers, open_peppers
from lnmt.security.principal import Principal
from lnmt.security.table import KeyTable
from lnmt.store import open_engine
from tests.conftest import Log


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_key_tells_who_holds_it(keys: KeyTable, peppers: Peppers) -> None:
    key, plaintext = keys.add("one", "operator", peppers, rate_per_s=3.0)
    keyring = Keyring(keys, peppers)
    assert keyring.check(plaintext) is None  # not looked yet
    assert keyring.refresh()
    assert keyring.check(plaintext) == Principal(key.id, "operator", 3.0)


def test_other_keys_are_nobodys(keys: KeyTable, peppers: Peppers) -> None:
    key, plaintext = keys.add("one", "viewer", peppers)
    other, _ = keys.add("two", "admin", peppers)
    keyring = Keyring(keys, peppers)
    keyring.refresh()
    forged = [
        mint().plaintext,
        plaintext[:-1] + ("A" if plaintext[-1] != "A" else "B"),
        plaintext.replace(key.id, other.id),
        plaintext.upper(),
        key.digest,
        f"lnmt_{key.id}_{key.digest[:43]}",
        "",
    ]
    assert [keyring.check(text) for text in forged] == [None] * len(forged)


def test_the_first_look_after_a_revocation_ends_the_key(keys: KeyTable, peppers: Peppers) -> None:
    key, plaintext = keys.add("one", "viewer", peppers)
    _, kept = keys.add("two", "viewer", peppers)
    keyring = Keyring(keys, peppers)
    keyring.refresh()
    assert not keyring.refresh()
    keys.revoke(key.id)
    assert keyring.check(plaintext) is not None
    assert keyring.refresh()
    assert keyring.check(plaintext) is None
    assert keyring.check(kept) is not None


def test_looks_are_near_enough_for_a_second() -> None:
    assert 2 * REFRESH_S <= 1.0


def _hold(database_url: str, state: Path, plaintext: str, pipe: Connection) -> None:
    """Another worker: says when its keyring takes the key, and when no longer."""
    keyring = Keyring(KeyTable(database_url), open_peppers(None, state))
    keyring.start()
    pause = threading.Event()
    for wanted in (True, False):
        while (keyring.check(plaintext) is not None) != wanted:
            pause.wait(0.01)
        pipe.send(wanted)
    keyring.stop(30)
    pipe.send(keyring.stale_s <= STALE_S)


def test_other_processes_follow_a_revocation(database_url: str, tmp_path: Path) -> None:
    with KeyTable(database_url) as keys:
        key, plaintext = keys.add("one", "viewer", open_peppers(None, tmp_path))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "tests.security.test_keyring", "psycopg"])
        workers, pipes = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            workers.append(context.Process(target=_hold, args=(database_url, tmp_path, plaintext, theirs), daemon=True))
            workers[-1].start()
            theirs.close()
            pipes.append(ours)
        assert [pipe.recv() for pipe in pipes] == [True, True]
        keys.revoke(key.id)
        assert [pipe.recv() for pipe in pipes] == [False, False]
        assert [pipe.recv() for pipe in pipes] == [True, True]
        for worker, pipe in zip(workers, pipes, strict=True):
            worker.join()
            pipe.close()


def test_without_the_database_the_last_keys_go_on_and_it_says_for_how_long(
    tmp_path: Path, peppers: Peppers, log: Log
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'lnmt.db'}")
    keys, clock = KeyTable(engine), Clock()
    _, plaintext = keys.add("one", "viewer", peppers)
    keyring = Keyring(keys, peppers, clock=clock)
    assert keyring.stale_s == math.inf
    keyring.refresh()
    assert keyring.stale_s == 0.0

    @event.listens_for(engine, "before_cursor_execute")
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    for step in range(3):
        clock.now += 20.0
        assert not keyring.refresh()
        assert keyring.check(plaintext) is not None
        assert keyring.stale_s == 20.0 * (step + 1)
    [line] = [line for line in log() if line["level"] == "error"]
    assert (line["event"], line["error"]) == ("the API keys cannot be read", "OSError")

    event.remove(engine, "before_cursor_execute", fail)
    assert not keyring.refresh()  # the same keys
    assert keyring.stale_s == 0.0
    assert [line["event"] for line in log() if line["level"] == "info"] == ["the API keys can be read again"]
    engine.dispose()


def test_keys_of_a_pepper_that_is_not_here_do_not_work_and_are_told(keys: KeyTable, peppers: Peppers, log: Log) -> None:
    old, of_old = keys.add("old", "viewer", peppers)
    new = Peppers.of(["b" * 32], where="test")
    _, of_new = keys.add("new", "viewer", new)
    keyring = Keyring(keys, new)
    keyring.refresh()
    assert keyring.check(of_old) is None
    assert keyring.check(of_new) is not None
    [line] = [line for line in log() if line["level"] == "warning"]
    assert line["keys"] == [old.id]
    both = Keyring(keys, Peppers.of(["b" * 32, "a" * 32], where="test"))
    both.refresh()
    assert both.check(of_old) is not None
    assert both.check(of_new) is not None


def test_the_thread_ends_with_the_service(keys: KeyTable, peppers: Peppers) -> None:
    keyring = Keyring(keys, peppers)
    keyring.start()
    keyring.stop(30)
    assert keyring.stale_s <= STALE_S
    assert [thread for thread in threading.enumerate() if thread.name == "keyring"] == []
