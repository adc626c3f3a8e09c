"""Edits of the shipped params.yaml that keep its comments: for own data, and for the profiles."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

from lnmt.init.labels import Look
from lnmt.init.tasks import CAUSAL_MODEL, STARTS
from lnmt.params import FilesSource, Params, parse_params
from lnmt.training.metrics.names import default_metric

Profile = Literal["demo", "tiny"]


def shipped(name: str) -> str:
    """The text of a file that ships with LNMT: params.yaml, prefect.yaml."""
    return (files("lnmt") / "template" / name).read_text(encoding="utf-8")


def shipped_params() -> Params:
    """The defaults."""
    import yaml

    return parse_params(yaml.safe_load(shipped("params.yaml")), where="the params.yaml that ships with LNMT")


class Edit:
    """The shipped params.yaml, to be changed in place."""

    def __init__(self) -> None:
        from ruamel.yaml import YAML

        self._yaml = YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 200
        self._yaml.representer.add_representer(type(None), _null)
        self._yaml.indent(mapping=2, sequence=4, offset=2)
        self.content: Any = self._yaml.load(shipped("params.yaml"))

    def text(self) -> str:
        """The changed file; checked against the schema."""
        out = io.StringIO()
        self._yaml.dump(self.content, out)
        self.params(out.getvalue())
        return out.getvalue()

    @staticmethod
    def params(text: str) -> Params:
        """What the text means."""
        import yaml

        return parse_params(yaml.safe_load(text), where="params.yaml")


def _null(representer: Any, _: None) -> Any:
    """`null` in words, as the shipped file writes it."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def for_data(edit: Edit, name: str, source: FilesSource, look: Look, slices: Sequence[str]) -> None:
    """One local file, for the task of `look`: nothing that belongs to the demo's data stays."""
    content, start = edit.content, STARTS[look.task]
    content["name"] = name
    content["task"] = look.task
    content["ingest"]["sources"] = [source.model_dump(mode="json")]
    content["ingest"]["slices"] = list(slices)
    content["validate"]["labels"] = list(look.labels) or None
    content["validate"]["min_rows"] = max(1, min(content["validate"]["min_rows"], look.rows // 2))
    content["process"]["holdout"] = {}
    for key in [key for key in content["train"]["model"] if key not in start.model]:
        del content["train"]["model"][key]
    content["train"]["model"].update(start.model)
    content["train"]["metric"] = default_metric(look.task)
    content["evaluate"]["baselines"] = list(start.baselines)
    content["evaluate"]["slices"] = [*slices, *start.slices]
    content["gate"] = [dict(gate) for gate in start.gates]
    _for_task(content, look)
    _provable(content, look.rows)


def _for_task(content: Any, look: Look) -> None:
    """Numbers of the shipped file that would be wrong for such labels."""
    if look.task in ("multi-label-classification", "token-classification"):
        rarest = min(look.labels.values()) / look.rows  # labels and tags of few rows are usual here
        content["validate"]["min_label_share"] = min(content["validate"]["min_label_share"], _rounded(rarest / 2))
    if look.task == "text-generation":
        content["validate"]["max_characters"] = 1_000_000  # documents, which are cut into blocks
        content["train"]["encoder"] = CAUSAL_MODEL
        content["train"]["digest"] = None
        content["train"].yaml_add_eol_comment("a causal language model; or local:PATH", "encoder")
        del content["tune"]["space"]["model.dropout"]  # it has shares of its own


def _provable(content: Any, rows: int) -> None:
    """Limits of `optimize.budget` that as many rows can show: of few texts nobody can say that 1 % are not worse.

    Where no answer changes in N texts, its share is still only known to be below 1 − (1 − confidence)^(1/N) (Clopper
    & Pearson 1934). Twice that leaves room for a change or two.
    """
    optimize, split = content["optimize"], content["process"]["split"]
    for name, part in (("max_loss", "test"), ("max_flip_share", "test"), ("max_composition_share", "validation")):
        texts = max(1, int(rows * split[part]))
        least = 2 * (1 - (1 - optimize["confidence"]) ** (1 / texts))
        if least > optimize["budget"][name]:
            optimize["budget"][name] = min(1.0, math.ceil(100 * least) / 100)
            optimize["budget"].yaml_add_eol_comment(f"{texts} rows of {part} can show no much smaller share", name)


# What a budget of `optimize` allows to be lost. Of a few rows nothing smaller can be shown.
LOSSES = ("max_loss", "max_slice_loss", "max_metric_loss", "max_flip_share", "max_composition_share")


def _rounded(number: float) -> float:
    return float(f"{number:.1g}")


def make_tiny(edit: Edit) -> None:
    """The same pipeline in seconds, on a few rows: for tests and for a first look. Its model is good for nothing."""
    content = edit.content
    content["ingest"]["limit"] = 150
    content["validate"].update(min_rows=50, max_duplicate_share=0.5, max_quarantined_share=0.2)
    content["train"].update(max_tokens=32, max_steps=8, batch_size=16, evaluations_per_epoch=1, precision="fp32")
    content["evaluate"].update(bootstrap_samples=50, min_slice_rows=5)
    content["gate"] = [{"metric": default_metric(content["task"]), "at_least": 0.0}]
    optimize = content["optimize"]
    optimize.update(
        engines=["torch", "onnxruntime", "openvino"], precisions=["fp32"], compressions=[], finalists=2,
        batch_sizes=[1], rounds=3, warmup_rounds=1, bootstrap_samples=50,
    )  # fmt: skip
    optimize["budget"].update(dict.fromkeys(LOSSES, 0.5))
    content["release"].update(min_requests=10, min_requests_rollback=5)
    content["monitor"].update(min_rows=50)
