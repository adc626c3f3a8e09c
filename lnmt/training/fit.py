"""From examples to a fitted model: what the stage `train`, `lnmt tune` and `lnmt.Trainer` all run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import lnmt
from lnmt.bundles import Draft, Lineage
from lnmt.files import canonical_json, sha256_bytes, sha256_file
from lnmt.models.base import BaseModel
from lnmt.models.lora import merge_lora
from lnmt.params import Plugin, TrainParams
from lnmt.progress import Progress
from lnmt.text.processors import make
from lnmt.training.callbacks import CALLBACKS, Callback
from lnmt.training.callbacks.record_curve import RecordCurve
from lnmt.training.callbacks.stop_early import StopEarly
from lnmt.training.checkpoint import Checkpoints
from lnmt.training.compiling import CompileChoice, choose_compile
from lnmt.training.execution import Execution
from lnmt.training.feed import PAD_MULTIPLE
from lnmt.training.flops import flops_per_token, peak_flops
from lnmt.training.loop import Loop
from lnmt.training.metrics import check_metric
from lnmt.training.plan import Plan
from lnmt.training.precision import PrecisionChoice, choose_precision
from lnmt.training.prepare import TrainingData, check_rows, prepare_model, probe_batches
from lnmt.training.state import TrainState
from lnmt.training.validation import validate


@dataclass(frozen=True)
class Fitted:
    """A model with the best weights of its run, in eval mode, and how it came about."""

    model: BaseModel
    state: TrainState
    precision: PrecisionChoice
    compiling: CompileChoice
    peak_flops: float  # FLOP/s of the device, measured

    @property
    def choices(self) -> dict[str, Any]:
        """What was decided or found by measuring, as JSON values."""
        return {"precision": asdict(self.precision), "compile": asdict(self.compiling), "peak_flops": self.peak_flops}


def fit(
    options: TrainParams,
    data: TrainingData,
    *,
    work: Path,
    logs: Path,
    progress: Progress,
    plugins: Sequence[str] = (),
    callbacks: Mapping[str, Callback] | None = None,
    strict: bool = False,
) -> Fitted:
    """Train on `data`. A run that was cut short goes on from its checkpoints in `work`, to the same weights.

    `plugins`: modules whose code belongs to the run; `callbacks`: more of them, by name, than `options` names;
    `strict`: a checkpoint of another run in `work` is an error, not a reason to start again.
    Raises LnmtError where there is nothing to learn from, or the run cannot go on; UnknownName for a metric or plugin.
    """
    check_metric(options.metric, data.task, data.labels, where="params.yaml: train.metric")
    check_rows(data)
    model = prepare_model(options, data)
    probes = probe_batches(options, data)
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(options.precision, model, probes, work / "precision.json", device)
    progress.note(f"trains in {precision.precision}: {precision.why}")

    def execute(model: BaseModel, compiled: bool) -> Execution:
        return Execution(model, options, precision=precision.precision, compiled=compiled, device=device)

    compiling = choose_compile(
        options.compile,
        lambda compiled: execute(prepare_model(options, data), compiled),
        probes,
        Plan.of(len(data.train), options).steps,
        work / "compile.json",
    )
    if options.compile is not False:
        progress.note(f"trains {'compiled' if compiling.compiled else 'eagerly'}: {compiling.why}")
    execution = execute(model, compiling.compiled)
    peak = peak_flops(precision.precision, device, work / "peak_flops.json")
    own: dict[str, Callback] = {
        "curve": RecordCurve(flops_per_token(execution, probes[0]), peak),
        "stop-early": StopEarly(options.patience),
        **{plugin.name: _callback(plugin) for plugin in options.callbacks},
        **(callbacks or {}),
    }
    arithmetic = {
        "precision": precision.precision,
        "compiled": compiling.compiled,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    checkpoints = Checkpoints(
        work / "checkpoints",
        fingerprint(options, data, plugins, arithmetic),
        keep=options.keep_checkpoints,
        note=progress.note,
    )
    loop = Loop(
        execution=execution,
        tokenizer=data.tokenizer,
        train=data.train,
        validate=partial(
            validate,
            examples=data.validation,
            tokenizer=data.tokenizer,
            task=data.task,
            labels=data.labels,
            also=(options.metric,),
        ),
        options=options,
        checkpoints=checkpoints,
        progress=progress,
        work=work,
        logs=logs,
        callbacks=own,
        strict=strict,
    )
    state = loop.run()
    assert state.best_step is not None, "a run that ends was evaluated"
    model.load_state_dict(checkpoints.weights(state.best_step))
    if options.lora is not None:
        merge_lora(model)
    return Fitted(model.to("cpu").float().eval(), state, precision, compiling, peak)


def draft_of(
    fitted: Fitted, options: TrainParams, data: TrainingData, processors: Sequence[Plugin], lineage: Lineage
) -> Draft:
    """The bundle.json of a fitted model that runs in PyTorch."""
    return Draft(
        task=data.task,
        labels=list(data.labels),
        model=fitted.model.describe(options.model.name),
        engine="torch",
        precision="fp32",
        max_tokens=options.max_tokens,
        pad_multiple=PAD_MULTIPLE,
        temperature=1.0,
        processors=list(processors),
        parent=None if data.start is None else data.start.digest,
        lineage=lineage,
        evidence={
            "validation": fitted.state.best,
            "step": fitted.state.best_step,
            "trained_in": fitted.precision.precision,
        },
    )


def fingerprint(
    options: TrainParams, data: TrainingData, plugins: Sequence[str], arithmetic: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for a cut run to go on to the weights it was on the way to.

    `arithmetic`: what was chosen for this machine.
    """
    package = Path(lnmt.__file__).parent
    code = [path for folder in ("training", "models", "text", "data") for path in (package / folder).rglob("*.py")]
    loaded = [getattr(sys.modules.get(name), "__file__", None) for name in plugins]
    return {
        "lnmt": lnmt.__version__,
        "code": sha256_bytes(canonical_json([sha256_file(path) for path in sorted(code)])),
        "plugins": [sha256_file(Path(path)) for path in loaded if path is not None],
        "parameters": sha256_bytes(canonical_json(options.model_dump(mode="json"))),
        "task": data.task,
        "labels": list(data.labels),
        "data": {"train": data.train.digest, "validation": data.validation.digest},
        "encoder": _encoder_digest(data.encoder) if data.start is None else data.start.digest,
        "teacher": None if data.teacher is None else data.teacher.as_json(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **arithmetic,
    }


def _encoder_digest(encoder: Path) -> str | None:
    weights = encoder / "model.safetensors"
    return sha256_file(weights) if weights.is_file() else None


def _callback(plugin: Plugin) -> Callback:
    where = "params.yaml: train.callbacks"
    return make(CALLBACKS.get(plugin.name, where=where), plugin, where=where)
