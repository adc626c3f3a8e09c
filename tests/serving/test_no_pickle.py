"""Nothing on the serving path unpickles: no module of ours asks for it, and without it a service answers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lnmt.bundles import Bundle
from tests.service_kit import make_service_project

READERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {("torch", "load"), ("torch.jit", "load"), ("torch.package", "PackageImporter")}
SERVED = """
import json, pickle, sys
import _pickle

class Refused(Exception):
    pass

def refuse(*arguments, **named):
    raise Refused("something was unpickled")

class Unpickler(pickle.Unpickler):
    __init__ = refuse

for module in (pickle, _pickle):
    module.load = module.loads = refuse
    module.Unpickler = Unpickler
import torch
torch.load = torch.jit.load = refuse
try:
    pickle.loads(pickle.dumps(1))
except Refused:
    pass
else:
    raise SystemExit("the trap does not work")

from pathlib import Path
from starlette.testclient import TestClient
from lnmt.serving.build import build_app
from lnmt.settings import load_settings

project = Path(sys.argv[1])
with TestClient(build_app(load_settings(project, threads=1), project), client=("127.0.0.1", 1)) as client:
    while client.get("/readyz").status_code != 200:
        pass
    one = client.post("/predict", json={"text": "a good film"}).json()
    told = client.post("/feedback", json={"prediction_id": one["prediction_id"], "label": one["label"]})
    metrics = client.get("/metrics")
files = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("lnmt") and module.__file__}
print(json.dumps({"label": one["label"], "statuses": [told.status_code, metrics.status_code], "files": files}))
"""


def asked(source: str) -> set[str]:
    """What a module imports or calls that reads pickles."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in READERS}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module} if module.partition(".")[0] in READERS else set()
            found |= {f"{module}.{alias.name}" for alias in node.names if (module, alias.name) in CALLS}
        elif isinstance(node, ast.Attribute) and (ast.unparse(node.value), node.attr) in CALLS:
            found.add(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found |= set() if ast.unparse(node.value) == "False" else {"allow_pickle"}
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", {"pickle"}),
        ("from joblib import load", {"joblib"}),
        ("import torch\ntorch.load('x')", {"torch.load"}),
        ("from torch import load", {"torch.load"}),
        ("import torch\nread = torch.jit.load", {"torch.jit.load"}),
        ("np.load(path, allow_pickle=True)", {"allow_pickle"}),
        ("np.load(path, allow_pickle=False)", set()),
        ("json.load(file)", set()),
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str, found: set[str]) -> None:
    assert asked(source) == found


def test_a_service_loads_and_answers_where_nothing_can_be_unpickled(tmp_path: Path, champion: Bundle) -> None:
    project = make_service_project(tmp_path / "project", champion)
    command = [sys.executable, "-c", SERVED, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["label"] in champion.manifest.labels
    assert told["statuses"] == [200, 200]
    files = {name: Path(file) for name, file in told["files"].items()}
    assert {"lnmt.serving.app", "lnmt.bundles.bundle", "lnmt.runtime.torch"} <= files.keys()
    assert {name: found for name, file in files.items() if (found := asked(file.read_text(encoding="utf-8")))} == {}
