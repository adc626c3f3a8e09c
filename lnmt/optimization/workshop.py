"""What a compression may use: the trained model, texts that decided nothing yet, and the training engine.

Legend: B = rows, T = tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lnmt.bundles import Bundle
from lnmt.errors import LnmtError
from lnmt.files import canonical_json, sha256_bytes, write_bytes
from lnmt.params import FineTune, TrainParams
from lnmt.progress import Progress
from lnmt.text.tokenizer import Tokenizer
from lnmt.types import PER_TOKEN, Batch

if TYPE_CHECKING:
    from lnmt.models.base import BaseModel, TrainingBatch
    from lnmt.training.callbacks import Callback
    from lnmt.training.prepare import TrainingData
    from lnmt.training.teacher import Answers

CALIBRATION_BATCH = 16


@dataclass(frozen=True)
class Workshop:
    """Everything outside of the model that a compression may look at. Test rows are never among it."""

    bundle: Bundle  # the trained weights: what is compressed, and the teacher
    data: TrainingData  # the train and validation splits as token ids
    train: TrainParams  # how the model was trained
    tuning: FineTune  # in what a fine-tuning differs from that
    calibration_rows: int  # of the train split, for what is only looked at
    work: Path  # of this compression alone; survives a crash
    shared: Path  # of all compressions of this bundle; survives a crash
    progress: Progress
    seed: int

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The bundle's."""
        return Tokenizer(self.bundle.file("tokenizer.json"), self.bundle.manifest.max_tokens)

    @cached_property
    def calibration(self) -> Sequence[Batch]:
        """Batches [≤ 16, T] of `calibration_rows` rows drawn from the train split by `seed`, alike in length.

        Raises LnmtError where the split has no rows.
        """
        multiple = self.bundle.manifest.pad_multiple
        rows = [self.data.train.rows(places) for places in self._drawn]
        return [self.tokenizer.pad([row.tolist() for row in some], multiple) for some in rows]

    @cached_property
    def labelled(self) -> Sequence[TrainingBatch]:
        """The rows of `calibration` with their labels, as training takes them. Raises LnmtError as it does."""
        from lnmt.training.feed import to_batch

        return [to_batch(self.data.train, places, self.tokenizer) for places in self._drawn]

    def fine_tune(
        self,
        model: BaseModel,
        *,
        teacher: bool = True,
        hidden: Mapping[str, str] | None = None,
        callbacks: Mapping[str, Callback] | None = None,
        name: str = "fine-tune",
        **changes: Any,
    ) -> BaseModel:
        """`model`, which its `config` describes, after a run of the training engine from where it stands; eval mode.

        `teacher`: it learns from the trained model's answers beside the labels. `hidden`: module of the model →
        module of the trained one whose states it is to have; it needs the teacher. `callbacks`: of the run, by name;
        they may change the model at its start, without adding to its state. `name`: of this run within the
        compression. `changes`: of the training's parameters. A run that was cut short goes on, to the same weights,
        when it is asked for again with the same model.

        Raises LnmtError where there is nothing to learn from, or the run cannot go on.
        """
        from lnmt.training.fine_tune import fine_tune, fine_tune_options
        from lnmt.training.teacher import Teacher

        options = fine_tune_options(self.train, self.tuning, **changes)
        master: Teacher | None = None
        if teacher:
            by_row = self.data.task not in PER_TOKEN and not hidden
            master = Teacher(self.bundle, hidden=hidden or {}, answers=self.answers if by_row else None)
        work = self.work / name
        return fine_tune(
            model,
            self.bundle,
            options,
            self.data,
            teacher=master,
            work=work,
            progress=self.progress,
            callbacks=callbacks,
        )

    @cached_property
    def answers(self) -> Answers:
        """The trained model's logits of the train split, kept for all compressions. Not for tasks by token."""
        from lnmt.training.teacher import Answers, answer_rows

        # The arithmetic that was measured to be the faster one here; the precision of `train` may be `auto`.
        precision = self.bundle.manifest.evidence.get("trained_in", "fp32")
        made_of = [self.bundle.digest, self.data.train.digest, precision]
        kept = self.shared / f"{sha256_bytes(canonical_json(made_of)).removeprefix('sha256:')}.f32"
        if kept.is_file():
            logits = np.frombuffer(kept.read_bytes(), np.float32).reshape(len(self.data.train), -1)
            return Answers(logits, self.data.train.ids)
        found = answer_rows(self.bundle, self.data.train, self.tokenizer, self.progress, precision)
        write_bytes(kept, found.logits.tobytes())
        return found

    @cached_property
    def _drawn(self) -> Sequence[NDArray[np.int64]]:
        """Places in the train split, by batch."""
        examples = self.data.train
        if len(examples) == 0:
            raise LnmtError(
                "there is nothing to calibrate on",
                where=self.data.where / "train",
                value="0 rows",
                allowed="at least 1",
                fix="give more data, or a larger share: params.yaml: process.split",
            )
        rng = np.random.default_rng(self.seed)
        count = min(self.calibration_rows, len(examples))
        chosen = np.sort(rng.choice(len(examples), count, replace=False))
        ordered = chosen[np.argsort(examples.lengths[chosen], kind="stable")]
        return [ordered[start : start + CALIBRATION_BATCH] for start in range(0, count, CALIBRATION_BATCH)]
