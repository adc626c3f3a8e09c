from __future__ import annotations

from pathlib import Path

import pytest

from lnmt.bundles import Bundle, new_bundle
from lnmt.bundles.served import check_served
from lnmt.errors import LnmtError
from tests.bundles.conftest import DRAFT, make_bundle


def test_a_text_classifier_is_served(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert check_served(bundle) is bundle


def test_another_task_is_refused_with_what_to_use(tmp_path: Path) -> None:
    draft = DRAFT.model_copy(update={"task": "text-regression", "labels": []})
    with new_bundle(tmp_path / "bundle", draft) as directory:
        (directory / "model.bin").write_bytes(b"x")
    with pytest.raises(LnmtError) as raised:
        check_served(Bundle.open(tmp_path / "bundle"))
    assert (raised.value.value, raised.value.allowed) == ("text-regression", "text-classification")
    assert raised.value.where == tmp_path / "bundle"
    assert "lnmt predict" in str(raised.value.fix)
