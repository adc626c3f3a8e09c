from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lnmt.errors import LnmtError
from lnmt.security.peppers import Peppers, open_peppers


def test_a_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = open_peppers(None, state)
    [made] = state.iterdir()
    assert (made.name, stat.S_IMODE(made.stat().st_mode)) == ("pepper", 0o600)
    assert len(made.read_text().strip()) == 64
    assert open_peppers(None, state) == first
    assert open_peppers(None, tmp_path / "other") != first


def test_of_many_at_once_all_have_the_same(tmp_path: Path) -> None:
    for trial in range(20):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda state: open_peppers(None, state), [tmp_path / str(trial)] * 8))
        assert all(peppers == found[0] for peppers in found)
        assert [path.name for path in (tmp_path / str(trial)).iterdir()] == ["pepper"]


def test_the_first_is_for_new_keys_and_the_others_stay_known(tmp_path: Path) -> None:
    old, new = "o" * 32, "n" * 32
    [(old_id, old_secret)] = [Peppers.of([old], where="test").newest]
    for both in (open_peppers(f"{new}, {old}", tmp_path), _of_file(tmp_path, f"{new}\n{old}\n")):
        assert both.newest[1] == new.encode()
        assert both.find(old_id) == old_secret == old.encode()
    assert open_peppers(new, tmp_path).find(old_id) is None


def _of_file(state: Path, content: str) -> Peppers:
    (state / "pepper").touch(0o600)
    (state / "pepper").write_text(content)
    return open_peppers(None, state)


@pytest.mark.parametrize("setting", ["", "short", f"{'a' * 32},short"])
def test_a_short_one_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(LnmtError, match="missing or too short") as caught:
        open_peppers(setting, tmp_path)
    assert caught.value.where == "LNMT_PEPPER"
    assert "short" not in str(caught.value).replace("too short", "")  # its value is not told


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    open_peppers(None, tmp_path)
    (tmp_path / "pepper").chmod(mode)
    with pytest.raises(LnmtError, match="others may read the pepper") as caught:
        open_peppers(None, tmp_path)
    assert caught.value.value == f"mode {mode:04o}"


def test_it_does_not_print_its_secrets(tmp_path: Path) -> None:
    assert "a" * 32 not in repr(Peppers.of(["a" * 32], where="test"))
