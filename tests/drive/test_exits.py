from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.drive.exits import read_exit, write_exit
from lnmt.errors import DigestMismatch, GateBlocked, LnmtError, Transient
from lnmt.settings import Settings


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LnmtError("wrong", where=Path("a"), value=1, allowed="2", fix="mend"), LnmtError),
        (GateBlocked("too low", value=0.1), GateBlocked),
        (Transient("later"), Transient),
        (DigestMismatch("file", expected="a", found="b", fix="fetch it"), LnmtError),
    ],
)
def test_an_error_comes_back_with_its_parts(tmp_path: Path, error: LnmtError, kind: type[LnmtError]) -> None:
    settings = Settings(project=tmp_path)
    write_exit(settings, "train", error)
    back = read_exit(settings, "train")
    assert isinstance(back, LnmtError)
    assert type(back) is kind
    assert str(back) == str(error)
    assert back.exit_code == error.exit_code


def test_other_ends(tmp_path: Path) -> None:
    settings = Settings(project=tmp_path)
    assert read_exit(settings, "train") is None
    write_exit(settings, "train", None)
    assert read_exit(settings, "train") == 0
    write_exit(settings, "train", KeyboardInterrupt())
    assert isinstance(read_exit(settings, "train"), KeyboardInterrupt)
    write_exit(settings, "train", ZeroDivisionError("division by zero"))
    assert str(read_exit(settings, "train")) == "ZeroDivisionError: division by zero"
