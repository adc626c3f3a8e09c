"""A model that was changed learns back what it lost: a short run of the training engine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.models import WEIGHTS
from lnmt.params import FineTune, TrainParams
from lnmt.progress import Progress
from lnmt.training.fit import fit
from lnmt.training.prepare import TrainingData

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel
    from lnmt.training.callbacks import Callback
    from lnmt.training.teacher import Teacher

# Of `train`, what a changed model cannot take over: names of parameters that it may no longer have, and additions
# that were merged; what only a long run pays for; and what belongs to that run alone.
AFRESH: dict[str, Any] = {"freeze": [], "lora": None, "layer_decay": 1.0, "compile": False, "callbacks": []}


def fine_tune_options(train: TrainParams, tuning: FineTune, **changes: Any) -> TrainParams:
    """How a model that was trained as `train` says is fine-tuned: for other epochs, at another rate.

    An optimiser that has no `lr` among its options keeps its own. `changes` come last.
    """
    optimizer = train.optimizer.model_dump()
    if "lr" in optimizer:
        optimizer["lr"] = tuning.lr
    known = train.model_dump()
    return TrainParams.model_validate({**known, **AFRESH, "epochs": tuning.epochs, "optimizer": optimizer, **changes})


def fine_tune(
    model: BaseModel,
    parent: Bundle,
    options: TrainParams,
    data: TrainingData,
    *,
    teacher: Teacher | None,
    work: Path,
    progress: Progress,
    callbacks: Mapping[str, Callback] | None = None,
) -> BaseModel:
    """`model` with the best weights of a run from where it stands; in eval mode, on the CPU.

    It learns the task of `parent`, the bundle that it was made of, from `data`. A run that was cut short goes on
    from its checkpoints in `work`, where the same model is given again. Raises LnmtError as `fit` does.
    """
    manifest = parent.manifest
    change = {"model": model.describe(str(manifest.model["name"])), "parent": parent.digest}
    draft = Draft(**{**{name: getattr(manifest, name) for name in Draft.model_fields}, **change})
    with new_bundle(work / "start", draft) as directory:
        model.save(directory / WEIGHTS)
        shutil.copyfile(parent.file("tokenizer.json"), directory / "tokenizer.json")
    fitted = fit(
        options,
        replace(data, start=Bundle.open(work / "start"), teacher=teacher),
        work=work / "run",
        logs=work / "logs",
        progress=progress,
        callbacks=callbacks,
    )
    model.load_state_dict(fitted.model.state_dict())
    model.config = fitted.model.config
    return model.float().eval()
