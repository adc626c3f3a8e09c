from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lnmt.runtime.trt_plan import (
    FACTS,
    PLAN,
    Key,
    Machine,
    Profile,
    make_profiles,
    parts,
    profiles_of,
    read_plan,
    write_plan,
)
from tests.tiny_bundle import tiny_bundle

MACHINE = Machine("11.4.0.106", "NVIDIA L4", (8, 9))
KEY = Key("sha256:" + "a" * 64, MACHINE, make_profiles(64, 8))


def test_profiles_cover_every_batch_that_is_sent() -> None:
    single, many = make_profiles(64, 8)
    assert single == Profile((1, 1), (1, 32), (1, 64))
    assert many == Profile((2, 1), (16, 32), (64, 64))
    for rows in range(1, 65):
        for tokens in (1, 7, 8, 63, 64):
            assert single.takes(rows, tokens) != many.takes(rows, tokens)
    assert not many.takes(65, 8)
    assert not single.takes(1, 65)


@pytest.mark.parametrize(("max_tokens", "multiple", "usual"), [(1, 8, 1), (5, 8, 5), (20, 8, 16), (512, 8, 256)])
def test_the_usual_length_lies_in_the_range(max_tokens: int, multiple: int, usual: int) -> None:
    for profile in make_profiles(max_tokens, multiple, 4):
        assert profile.best[1] == usual
        assert profile.takes(*profile.best)
        assert profile.takes(*profile.most)


def test_one_row_at_most_wants_one_profile() -> None:
    assert make_profiles(64, 8, 1) == (Profile((1, 1), (1, 32), (1, 64)),)


@pytest.mark.parametrize(("rows", "sizes"), [(1, [1]), (64, [64]), (65, [32, 33]), (130, [43, 43, 44])])
def test_rows_are_parted_evenly(rows: int, sizes: list[int]) -> None:
    found = parts(rows, 64)
    assert [part.stop - part.start for part in found] == sizes
    assert [place for part in found for place in range(part.start, part.stop)] == list(range(rows))


OTHERS = {
    "graph": replace(KEY, graph="sha256:" + "b" * 64),
    "version": replace(KEY, machine=replace(MACHINE, tensorrt="11.4.0.107")),
    "gpu": replace(KEY, machine=replace(MACHINE, gpu="NVIDIA L40")),
    "capability": replace(KEY, machine=replace(MACHINE, capability=(9, 0))),
    "rows": replace(KEY, profiles=make_profiles(64, 8, 32)),
    "tokens": replace(KEY, profiles=make_profiles(128, 8)),
}


def test_groups_have_profiles_of_their_own(tmp_path: Path) -> None:
    manifest = tiny_bundle(tmp_path / "bundle").manifest
    assert profiles_of(manifest, None) == make_profiles(64, 8)
    assert profiles_of(manifest, 8)[1] == Profile((2, 1), (8, 32), (8, 64))
    assert profiles_of(manifest, 1) == make_profiles(64, 8, 1)


def test_a_plan_is_found_again(tmp_path: Path) -> None:
    assert read_plan(tmp_path, KEY) == "there is none"
    write_plan(tmp_path, KEY, b"plan")
    assert read_plan(tmp_path, KEY) == b"plan"
    assert read_plan(tmp_path, replace(KEY)) == b"plan"
    write_plan(tmp_path, KEY, b"another")
    assert read_plan(tmp_path, KEY) == b"another"


@pytest.mark.parametrize("other", OTHERS)
def test_a_foreign_plan_is_not_trusted(tmp_path: Path, other: str) -> None:
    write_plan(tmp_path, KEY, b"plan")
    found = read_plan(tmp_path, OTHERS[other])
    assert isinstance(found, str)
    assert found.startswith("it was built for ")


@pytest.mark.parametrize("size", [0, 1, 99])
def test_a_plan_that_was_cut_off_is_not_trusted(tmp_path: Path, size: int) -> None:
    write_plan(tmp_path, KEY, bytes(100))
    path = tmp_path / PLAN
    path.write_bytes(path.read_bytes()[:size])
    assert read_plan(tmp_path, KEY) == "its bytes are not those that were written"


def test_a_changed_byte_is_not_trusted(tmp_path: Path) -> None:
    write_plan(tmp_path, KEY, bytes(100))
    (tmp_path / PLAN).write_bytes(bytes(99) + b"\1")
    assert read_plan(tmp_path, KEY) == "its bytes are not those that were written"


@pytest.mark.parametrize("facts", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_facts_that_are_broken_are_not_trusted(tmp_path: Path, facts: bytes) -> None:
    write_plan(tmp_path, KEY, b"plan")
    (tmp_path / FACTS).write_bytes(facts)
    assert isinstance(read_plan(tmp_path, KEY), str)


@pytest.mark.parametrize("name", [PLAN, FACTS])
def test_half_a_plan_is_none(tmp_path: Path, name: str) -> None:
    write_plan(tmp_path, KEY, b"plan")
    (tmp_path / name).unlink()
    assert read_plan(tmp_path, KEY) == "there is none"


def test_a_crash_while_writing_leaves_no_plan_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lnmt.runtime import trt_plan

    write_plan(tmp_path, KEY, b"old")

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trt_plan, "write_json", killed)  # the plan is there, its facts are not yet
        with pytest.raises(KeyboardInterrupt):
            write_plan(tmp_path, KEY, b"new")
    assert read_plan(tmp_path, KEY) == "there is none"
    write_plan(tmp_path, KEY, b"new")
    assert read_plan(tmp_path, KEY) == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [PLAN, FACTS]


def test_the_facts_are_readable(tmp_path: Path) -> None:
    write_plan(tmp_path, KEY, b"plan")
    facts = json.loads((tmp_path / FACTS).read_text())
    assert facts["machine"] == {"tensorrt": "11.4.0.106", "gpu": "NVIDIA L4", "capability": [8, 9]}
    assert facts["profiles"][1] == {"least": [2, 1], "best": [16, 32], "most": [64, 64]}
