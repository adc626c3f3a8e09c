"""Services with an engine or a processor of the test's own: a plugin beside their params.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.files import write_json
from tests.service_kit import make_service_project

PLUGINS = Path(__file__).parent / "plugins"


def rebuilt(bundle: Bundle, target: Path, **changes: object) -> Bundle:
    """The same files at `target` under another bundle.json, opened."""
    draft = Draft.model_validate({**bundle.manifest.model_dump(exclude={"files"}), **changes})
    with new_bundle(target, draft) as directory:
        for name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), directory / name)
    return Bundle.open(target)


def make_plugged_project(root: Path, champion: Bundle, plugin: str, told: Mapping[str, object]) -> Path:
    """A service's project that loads the module `plugin` of tests/faults/plugins, which finds `told` beside it."""
    project = make_service_project(root, champion)
    shutil.copyfile(PLUGINS / f"{plugin}.py", project / f"{plugin}.py")
    write_json(project / f"{plugin}.json", dict(told))
    params = project / "params.yaml"
    before = params.read_text(encoding="utf-8")
    after = before.replace("plugins: []", f"plugins: [{plugin}]", 1)
    assert before != after, "the params.yaml of this checkout names no plugins"
    params.write_text(after, encoding="utf-8")
    return project
