"""Projects that LNMT serves from: params.yaml and a packed champion, no deployment store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.bundles.packed import CHAMPION, pack_champion

STAND_IN = Path(__file__).with_name("stand_in.py")  # not imported here: a project has it as a module of its own


def make_project(root: Path, params: Path, bundle: Bundle, plugins: Sequence[str] = ()) -> Path:
    """One that serves `bundle` as generation 0, with the `params` of another and these plugins."""
    root.mkdir(parents=True)
    values = yaml.safe_load(params.read_text(encoding="utf-8")) | {"plugins": list(plugins)}
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    pack_champion(bundle, root)
    return root


def make_stand_in_project(root: Path, params: Path, bundle: Bundle, cost: tuple[float, float], width: int) -> Path:
    """The same with the engine of stand_in.py in the place of `bundle`'s: `cost` as `Choice.cost` tells it."""
    draft = {name: getattr(bundle.manifest, name) for name in Draft.model_fields}
    evidence = {"fixed_s": cost[0], "by_token_s": cost[1], "width": width}
    target = root.with_name(f"{root.name}.bundle")
    with new_bundle(target, Draft(**{**draft, "engine": STAND_IN.stem, "evidence": evidence})) as directory:
        shutil.copyfile(bundle.file("tokenizer.json"), directory / "tokenizer.json")
    project = make_project(root, params, Bundle.open(target), [STAND_IN.stem])
    shutil.copyfile(STAND_IN, project / STAND_IN.name)
    assert (project / CHAMPION).is_dir(), "it was packed"
    return project
