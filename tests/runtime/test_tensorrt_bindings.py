"""Every call of TensorRT in our code against the signatures of the real bindings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runtime.bindings import Bindings, need_bindings, run_bound
from tests.runtime.calls import Calls, Found, attribute_names

FILES = ("lnmt/runtime/trt_build.py", "lnmt/runtime/tensorrt.py")
ROOT = Path(__file__).parents[2]

# Names that TensorRT has too, on objects that are not its own: numpy's, torch's, ours.
# fmt: off
OURS = {
    "append", "capability", "dtype", "engine", "file", "get", "logger", "major", "minor", "most", "name", "names",
    "numpy", "pop", "profiles", "read", "shape", "stream", "write",
}
# fmt: on


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_bindings()
    return tmp_path_factory.mktemp("bindings")


@pytest.fixture(scope="module")
def bindings(libraries: Path) -> Bindings:
    return Bindings(libraries)


def find(bindings: Bindings, file: str) -> Found:
    return Calls(bindings).run((ROOT / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES)
def test_every_name_that_we_use_exists(bindings: Bindings, file: str) -> None:
    found = find(bindings, file)
    assert found.paths
    for path in sorted(found.paths - {"__version__"}):
        owner, *rest = path.split(".")
        assert owner in bindings.classes, path
        entry = bindings.classes[owner]
        known = {*entry["members"], *entry["inner"], *entry["attributes"]}
        assert not rest or rest[0] in known, path
    missing = [(owner, name) for owner, name in found.attributes if not bindings.has(owner, name)]
    assert missing == []


@pytest.mark.parametrize("file", FILES)
def test_every_call_fits_its_signature(bindings: Bindings, file: str) -> None:
    found = find(bindings, file)
    assert len(found.calls) >= 10
    for owner, method, positional, keywords, line in found.calls:
        signatures = bindings.signatures(owner, method)
        fits = [signature for signature in signatures if signature.takes(positional, set(keywords))]
        assert fits, f"{file}:{line}: {owner}.{method} takes {signatures}"


@pytest.mark.parametrize("file", FILES)
def test_no_call_escapes(bindings: Bindings, file: str) -> None:
    found = find(bindings, file)
    theirs = {name for entry in bindings.classes.values() for name in entry["attributes"]}
    members = {name for entry in bindings.classes.values() for name in [*entry["members"], *entry["inner"]]}
    escaped = {
        name: places - found.places
        for name, places in attribute_names((ROOT / file).read_text(encoding="utf-8")).items()
        if name in theirs - members - OURS and places - found.places
    }
    # a class of ours inside of trt_build calls its base's __init__
    escaped.pop("__init__", None)
    assert escaped == {}


def test_a_wrong_call_would_be_found(bindings: Bindings) -> None:
    source = """
import tensorrt
def build(config: tensorrt.IBuilderConfig, logger):
    builder = tensorrt.Builder(logger)
    builder.create_network()
    builder.create_network(1, 2)
    builder.build_engine(1)
    config.set_timing_cache(1, ignore=True)
    tensorrt.DataType.FLOAT128
"""
    found = Calls(bindings).run(source)
    bad = [
        (method, line)
        for owner, method, positional, keywords, line in found.calls
        if not any(one.takes(positional, set(keywords)) for one in bindings.signatures(owner, method))
    ]
    assert bad == [("create_network", 6), ("build_engine", 7), ("set_timing_cache", 8)]
    assert ("Builder", "build_engine") in found.attributes
    assert not bindings.has("Builder", "build_engine")
    assert "DataType.FLOAT128" in found.paths
    assert "FLOAT128" not in bindings.classes["DataType"]["members"]


MONITOR = """
from lnmt.runtime.trt_build import make_logger, make_monitor
told = []
monitor = make_monitor(lambda *step: told.append(step) or len(told) < 3)
assert isinstance(monitor, tensorrt_bindings.IProgressMonitor)
monitor.phase_start("tactics", None, 4)
first, second = monitor.step_complete("tactics", 0), monitor.step_complete("tactics", 1)
monitor.phase_finish("tactics")
def fail(*step):
    raise KeyboardInterrupt
broken = make_monitor(fail)
broken.phase_start("tactics", "all", 1)
quiet = make_monitor(None)
quiet.phase_start("x", None, 1)
logger = make_logger()
severity = tensorrt_bindings.ILogger.Severity
for level in (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING, severity.INFO, severity.VERBOSE):
    logger.log(level, str(level))
config = tensorrt_bindings.IBuilderConfig
assert isinstance(config.progress_monitor, property)
print(json.dumps([told, first, second, monitor.cancelled, type(broken.error).__name__,
                  broken.step_complete("tactics", 0), quiet.step_complete("x", 0), logger.lines]))
"""


def test_the_monitor_tells_each_step_and_cancels(libraries: Path) -> None:
    told, first, second, cancelled, error, goes_on, quiet, lines = json.loads(run_bound(MONITOR, libraries))
    assert told == [["tactics", 0, 4], ["tactics", 1, 4], ["tactics", 2, 4]]
    assert (first, second, cancelled) == (True, False, True)
    assert (error, goes_on, quiet) == ("KeyboardInterrupt", False, True)
    assert lines == ["Severity.INTERNAL_ERROR", "Severity.ERROR", "Severity.WARNING"]


START = """
from lnmt.errors import LnmtError
from lnmt.runtime.trt_build import build_plan
from lnmt.runtime.trt_plan import make_profiles
try:
    build_plan(Path("model.onnx"), make_profiles(64, 8))
except LnmtError as error:
    print(error.what, "|", error.fix)
"""


def test_a_builder_that_cannot_start_is_told(libraries: Path) -> None:
    assert run_bound(START, libraries).startswith("TensorRT cannot start | look at nvidia-smi")
