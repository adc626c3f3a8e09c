"""The pages on the Python API: their blocks run, and they name every public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lnmt import Model
from lnmt.public import PUBLIC

DOCS = Path(__file__).parents[2] / "docs"
PYTHON, PLUGINS = DOCS / "reference/python.md", DOCS / "how-to/plugins.md"


@pytest.mark.parametrize("page", [PYTHON, PLUGINS], ids=["python", "plugins"])
def test_the_blocks_run_one_after_the_other(page: Path, here: Path, plugin_tables: None) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    model = names["model"]
    assert isinstance(model, Model)
    assert model.predict("a good film").label in model.labels


def test_the_reference_names_every_public_name() -> None:
    text = PYTHON.read_text(encoding="utf-8")
    named = set(re.findall(r"`(lnmt(?:\.\w+)+)`", text.partition("## Names")[2].partition("\n## ")[0]))
    assert named == {f"{module}.{name}" for module, names in PUBLIC.items() for name in names}
