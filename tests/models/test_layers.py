from __future__ import annotations

from lnmt.models.layers import layers_of

ENCODER = ["e.words", "e.norm", *(f"e.layer.{place}.{name}" for place in range(11) for name in "ab")]


def test_blocks_stand_between_what_comes_before_and_the_head() -> None:
    assert layers_of([*ENCODER, "head.weight", "head.bias"]) == [
        ["e.words", "e.norm"],
        *([f"e.layer.{place}."] for place in range(11)),
        ["head.weight", "head.bias"],
    ]


def test_with_known_heads_a_norm_after_the_blocks_belongs_to_the_last() -> None:
    found = layers_of(["w", "h.0.a", "h.1.a", "norm", "head.weight"], heads=["head."])
    assert found == [["w"], ["h.0."], ["h.1.", "norm"], ["head."]]
    assert layers_of(["w", "h.0.a", "norm"], heads=[]) == [["w"], ["h.0.", "norm"]]


def test_without_blocks_the_last_module_is_the_head() -> None:
    assert layers_of(["words.weight", "out.weight", "out.bias"]) == [["words.weight"], ["out.weight", "out.bias"]]
    assert layers_of(["out.weight"]) == [["out.weight"]]
    assert layers_of([]) == []


def test_a_name_belongs_to_one_layer() -> None:
    layers = layers_of([*ENCODER, "head.weight"])
    for name in ENCODER:
        assert [any(name.startswith(prefix) for prefix in layer) for layer in layers].count(True) == 1
