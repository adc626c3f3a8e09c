from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import LnmtError, UnknownName
from lnmt.runtime import ENGINES
from lnmt.runtime import options as module
from lnmt.runtime.onnx_file import check_external_data
from lnmt.runtime.onnxruntime import choose_providers
from lnmt.runtime.options import Options
from lnmt.types import Precision

Bundles = dict[tuple[str, Precision], Bundle]


def changed(bundle: Bundle, target: Path, **change: Any) -> Bundle:
    draft = {name: getattr(bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(target, Draft(**{**draft, **change})) as directory:
        for name in bundle.manifest.files:
            (directory / name).write_bytes(bundle.file(name).read_bytes())
    return Bundle.open(target)


def test_settings_are_read(bundles: Bundles, tmp_path: Path) -> None:
    bundle = changed(bundles["openvino", "fp32"], tmp_path / "b", settings={"streams": 1, "group_rows": 4})
    assert Options.of(bundle, ("streams", "group_rows")) == Options(group_rows=4, streams=1)
    assert Options.of(bundles["openvino", "fp32"], ()) == Options()


@pytest.mark.parametrize(
    ("engine", "settings", "message"),
    [
        ("openvino", {"stream": 2}, r"unknown setting of engine 'openvino' 'stream'(?s:.*)did you mean 'streams'"),
        ("torch", {"streams": 2}, r"unknown setting of engine 'torch' 'streams'"),
        ("torch", {"grouprows": 2}, r"did you mean 'group_rows'"),
        ("torchscript", {"provider": "cpu"}, r"unknown setting of engine 'torchscript'"),
    ],
)
def test_a_setting_that_the_engine_does_not_know_is_refused(
    bundles: Bundles, tmp_path: Path, engine: str, settings: dict[str, object], message: str
) -> None:
    bundle = changed(bundles[engine, "fp32"], tmp_path / "b", settings=settings)
    with pytest.raises(UnknownName, match=message):
        ENGINES.get(engine)().load(bundle, threads=1, cache=None)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None])
@pytest.mark.parametrize("name", ["streams", "group_rows"])
def test_a_setting_that_is_no_count_is_refused(bundles: Bundles, tmp_path: Path, name: str, value: object) -> None:
    bundle = changed(bundles["openvino", "fp32"], tmp_path / "b", settings={name: value})
    if name == "group_rows" and value is None:
        assert Options.of(bundle, (name,)) == Options()
        return
    with pytest.raises(LnmtError, match=f"{name} is no count"):
        ENGINES.get("openvino")().load(bundle, threads=1, cache=None)


def test_more_streams_than_cores_are_refused(bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    bundle = changed(bundles["openvino", "fp32"], tmp_path / "b", settings={"streams": 3, "group_rows": 4})
    with pytest.raises(LnmtError, match=r"more streams than cores(?s:.*)1 to 2, the cores of this machine"):
        ENGINES.get("openvino")().load(bundle, threads=1, cache=None)


# Where ONNX Runtime runs

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("available", "asked", "expected"),
    [
        (ALL[2:], None, ["CPU"]),
        (ALL, None, ["CUDA", "CPU"]),
        (ALL, "cpu", ["CPU"]),
        (ALL, "tensorrt", ["Tensorrt", "CUDA", "CPU"]),
    ],
)
def test_the_order_of_providers(
    bundles: Bundles, available: list[str], asked: str | None, expected: list[str], tmp_path: Path
) -> None:
    found = choose_providers(bundles["onnxruntime", "fp32"], asked, available, tmp_path)
    assert [name.removesuffix("ExecutionProvider") for name, _ in found] == expected
    if asked == "tensorrt":
        assert found[0][1]["trt_fp16_enable"] == "0"
        assert Path(found[0][1]["trt_engine_cache_path"]).is_dir()


def test_a_provider_that_is_not_here_is_told(bundles: Bundles, tmp_path: Path) -> None:
    bundle = changed(bundles["onnxruntime", "fp32"], tmp_path / "b", settings={"provider": "cuda"})
    with pytest.raises(LnmtError, match=r"cannot run fp32 on cuda here(?s:.*)onnxruntime-gpu"):
        ENGINES.get("onnxruntime")().load(bundle, threads=1, cache=None)
    with pytest.raises(UnknownName, match="did you mean 'cuda'"):
        Options.of(changed(bundle, tmp_path / "c", settings={"provider": "cude"}), ("provider",))


def test_fp16_is_refused_where_nothing_runs_it(bundles: Bundles, tmp_path: Path) -> None:
    for engine in ("onnxruntime", "torch"):
        bundle = changed(bundles[engine, "fp32"], tmp_path / engine, precision="fp16")
        with pytest.raises(LnmtError, match="fp16"):
            ENGINES.get(engine)().load(bundle, threads=1, cache=None)


# ONNX files that read other files


def with_external(path: Path, location: str, *, nested: bool = False) -> Path:
    """A model whose one weight stands in the file `location`; `nested`: inside a branch of an If."""
    helper = onnx.helper
    tensor = helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    if nested:
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        branch = helper.make_graph([constant, helper.make_node("Identity", ["w"], ["z"])], "b", [], [out])
        branch.output[0].name = "z"
        flag = helper.make_tensor_value_info("x", onnx.TensorProto.BOOL, [])
        node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([node], "g", [flag], [out])
    else:
        flag = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
        graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [flag], [out], [tensor])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "a\\b"])
def test_external_data_outside_of_the_directory_is_refused(tmp_path: Path, location: str, nested: bool) -> None:
    path = with_external(tmp_path / "model.onnx", location, nested=nested)
    with pytest.raises(LnmtError, match="outside of its directory") as caught:
        check_external_data(path)
    assert caught.value.value == location


def test_external_data_by_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "bundle" / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(LnmtError, match="outside of its directory"):
        check_external_data(with_external(tmp_path / "bundle" / "model.onnx", "w.bin"))


def test_external_data_beside_the_model_is_taken(bundles: Bundles, tmp_path: Path) -> None:
    check_external_data(with_external(tmp_path / "model.onnx", "weights.bin"))
    check_external_data(bundles["onnxruntime", "fp32"].file("model.onnx"))


def test_the_engine_refuses_it_before_onnx_runtime_opens_it(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles["onnxruntime", "fp32"]
    draft = {name: getattr(bundle.manifest, name) for name in Draft.model_fields}
    with new_bundle(tmp_path / "b", Draft(**draft)) as directory:
        (directory / "tokenizer.json").write_bytes(bundle.file("tokenizer.json").read_bytes())
        with_external(directory / "model.onnx", "../secret")
    (tmp_path / "secret").write_bytes(np.ones(2, np.float32).tobytes())
    with pytest.raises(LnmtError, match="outside of its directory"):
        ENGINES.get("onnxruntime")().load(Bundle.open(tmp_path / "b"), threads=1, cache=None)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a", b"\x80" * 20])
def test_a_file_that_is_no_onnx_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(LnmtError, match="it is no ONNX file"):
        check_external_data(path)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (Options(), {1: 1, 5: 5, 64: 64}),
        (Options(group_rows=4), {1: 4, 5: 4, 64: 4}),
        (Options(group_rows=4, streams=2), {1: 1, 2: 1, 5: 2, 8: 2, 9: 3, 16: 4, 64: 4}),
    ],
)
def test_a_small_batch_is_cut_so_that_every_stream_has_groups(options: Options, sizes: dict[int, int]) -> None:
    assert {rows: options.group_size(rows) for rows in sizes} == sizes
