"""The layers of a model: the order of its parameters, read from their names, and the linear ones."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

BLOCK = re.compile(r"^(?:.*?\.)?\d+\.")  # up to the first number: `encoder.layer.3.`


def layers_of(names: Sequence[str], heads: Sequence[str] | None = None) -> list[list[str]]:
    """Parameter names in their order → layers of prefixes, from the input to the head.

    What stands before the first numbered block (`encoder.layer.0.…`) is a layer, and each block is one.
    With `heads`, the prefixes of the head, these are the last layer, and other names after the last block
    (a norm) belong to that block. With None all that stands after the last block is the head; without
    blocks it is the last module.
    """
    body = [name for name in names if not name.startswith(tuple(heads or ()))]
    found = [BLOCK.match(name) for name in body]
    blocks = list(dict.fromkeys(match[0] for match in found if match))
    first = next((place for place, match in enumerate(found) if match), len(body))
    before = body[:first]
    after = [name for name, match in zip(body[first:], found[first:], strict=True) if not match]
    layers = [before, *([block] for block in blocks)]
    if heads is not None:
        layers[-1] = [*layers[-1], *after]
        layers.append([prefix for prefix in heads if any(name.startswith(prefix) for name in names)])
    elif blocks:
        layers.append(after)
    elif names:
        module = names[-1].rpartition(".")[0]
        layers = [[name for name in names if (name.rpartition(".")[0] == module) is last] for last in (False, True)]
    return [layer for layer in layers if layer]


# Modules whose code reads the weights of the layers inside, and never calls them.
CLOSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def linear_layers(model: nn.Module, without: Sequence[str] = ()) -> dict[str, nn.Linear]:
    """The plain linear layers of `model` by name; those left out whose weights' names start with one of `without`.

    Layers whose weights are read by the code around them, which never calls them, are left out too.
    """
    closed = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, CLOSED))
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and not f"{name}.weight".startswith((*without, *closed))
    }
