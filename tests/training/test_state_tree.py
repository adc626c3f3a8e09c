from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lnmt.errors import LnmtError
from lnmt.training.state_files import DTYPES, Damaged, check_files, read_part, tensor_file, write_parts
from lnmt.training.state_tree import pack, unpack

Pair = namedtuple("Pair", "a b")

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
KEYS = st.integers() | st.text(st.characters(codec="utf-8")) | st.sampled_from(["$tensor", "$items", "$float"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


def there_and_back(state: Any, directory: Path) -> Any:
    content = write_parts(directory, {"part": state})
    check_files(directory, content["files"])
    return read_part(directory, json.loads(json.dumps(content, allow_nan=False)), "part")


@given(TREES)
def test_any_tree_comes_back_the_same(tree: Any) -> None:
    packed, tensors = pack(tree, "test")
    assert tensors == {}
    assert repr(unpack(json.loads(json.dumps(packed, allow_nan=False)), {})) == repr(tree)


@pytest.mark.parametrize("dtype", [*DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3)], ids=str)
def test_tensors_of_every_kind_come_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    size = torch.empty(shape, dtype=dtype).numel() * dtype.itemsize
    drawn = torch.randint(0, 2 if dtype is torch.bool else 256, (size,), dtype=torch.uint8)  # NaNs of all kinds too
    tensor = drawn.view(dtype).reshape(shape)
    (found,) = there_and_back([tensor], tmp_path)
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    assert torch.equal(found.reshape(-1).view(torch.uint8), drawn)


def test_other_orders_of_memory_are_written_as_they_read(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"turned": base.T, "part": base[:, 1:3], "spread": base[0, :1].expand(5), "conj": torch.tensor([1j]).conj()}
    found = there_and_back(state, tmp_path)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }


def test_an_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.5, 0.75))
    weight.grad = torch.full((3,), 0.5)
    optimizer.step()
    state = optimizer.state_dict()
    found = there_and_back(state, tmp_path)
    assert str(found) == str(state)
    assert list(found["state"]) == [0], "an integer"
    assert found["param_groups"][0]["betas"] == (0.5, 0.75)
    assert set(load_file(tmp_path / "part.safetensors")) == {"state/0/step", "state/0/exp_avg", "state/0/exp_avg_sq"}


def test_tied_weights_are_held_once(tmp_path: Path) -> None:
    weight = torch.randn(4, 2)
    found = there_and_back({"wte": weight, "head": weight, "other": weight.T}, tmp_path)
    assert torch.equal(found["head"], weight)
    assert found["head"] is found["wte"]
    assert torch.equal(found["other"], weight.T)
    assert set(load_file(tmp_path / "part.safetensors")) == {"wte", "other"}


def test_names_that_look_alike_stay_apart(tmp_path: Path) -> None:
    state = {"a": {0: torch.tensor(1), "0": torch.tensor(2)}, "a/0": torch.tensor(3), 7: {}}
    found = there_and_back(state, tmp_path)
    assert (int(found["a"][0]), int(found["a"]["0"]), int(found["a/0"]), found[7]) == (1, 2, 3, {})


def test_kinds_of_dicts_are_dicts(tmp_path: Path) -> None:
    nested: defaultdict[str, Any] = defaultdict(dict, {"a": OrderedDict(b=1)})
    assert there_and_back(nested, tmp_path) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "a object"),
        (Pair(1, 2), "a Pair"),
        (b"bytes", "a bytes"),
        (torch.eye(2).to_sparse(), r"a tensor of this kind \(torch.sparse_coo\)"),
        (torch.empty(2, device="meta"), r"a tensor of this kind \(meta\)"),
    ],
    ids=["object", "namedtuple", "bytes", "sparse", "meta"],
)
def test_what_cannot_be_held_is_named(value: object, kind: str) -> None:
    with pytest.raises(LnmtError, match=f"a checkpoint cannot hold {kind}") as caught:
        pack({"outer": [1, {3: value}]}, "callback-mine")
    assert caught.value.where == "state of callback-mine: outer/1/3"


def test_numbers_that_safetensors_does_not_know_are_named(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match=r"cannot hold a tensor of torch\.complex128"):
        write_parts(tmp_path, {"part": {"x": torch.zeros(1, dtype=torch.complex128)}})


def test_a_part_has_a_file_of_its_own_whatever_its_name(tmp_path: Path) -> None:
    content = write_parts(tmp_path, {"callback-a/../b": {"x": torch.ones(1)}, "empty": {}})
    assert [path.name for path in tmp_path.iterdir()] == ["callback-a%2F..%2Fb.safetensors"]
    assert list(content["files"]) == [tensor_file("callback-a/../b")]


def test_a_file_that_is_gone_is_named_with_its_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    with pytest.raises(Damaged, match=f"a.safetensors cannot be read: No such file or directory; it was {digest}"):
        check_files(tmp_path, {"a.safetensors": digest})
