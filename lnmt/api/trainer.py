"""`lnmt.Trainer`: the training engine over data sets in memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnmt.api.dataset import Dataset
from lnmt.api.lineage import lineage_here
from lnmt.api.model import Model
from lnmt.api.options import metric_of, spelt_out, train_params
from lnmt.api.places import shipped_params
from lnmt.errors import LnmtError
from lnmt.params import Plugin, TrainParams
from lnmt.progress import Progress

if TYPE_CHECKING:
    from lnmt.training.prepare import TrainingData


class Trainer:
    """Trains a model, with every parameter of `params.yaml: train` under its own name.

    What is not said is as in the params.yaml that ships with LNMT, but `metric`, which is the task's. Also understood:
    `gradient_clipping` (max_gradient_norm), `learning_rate` and `weight_decay` (of the optimizer), `max_length`
    (max_tokens). `optimizer`, `schedule` and each of `callbacks` is a plugin's name or `{"name": …, option: …}`;
    a callback may also be an object. `work`: a directory for checkpoints; a `fit` that was killed goes on from
    there when it is called again. Raises UnknownName for a parameter that is not there.

    >>> data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    >>> train, validation, test = data.split(train=0.6, validation=0.2, test=0.2)
    >>> trainer = Trainer(
    ...     model=Model("local:encoder"), precision="fp32", gradient_clipping=1.0, epochs=6, batch_size=8,
    ...     optimizer="adamw", learning_rate=2e-2, patience=12,
    ... )  # fmt: skip
    >>> trainer.fit(train, validation).labels
    ('negative', 'positive')
    >>> trainer.evaluate(test)["accuracy"] > 0.9
    True
    >>> trainer.predict(["a good film"])[0].label
    'positive'
    """

    def __init__(self, model: Model | str, *, work: str | Path | None = None, **options: Any) -> None:
        self.model = Model(model) if isinstance(model, str) else model
        self.work = None if work is None else Path(work)
        self._objects = [one for one in options.get("callbacks", ()) if _is_callback(one)]
        if "callbacks" in options:
            options["callbacks"] = [one for one in options["callbacks"] if not _is_callback(one)]
        self._said = spelt_out(options)
        if self.model.gradient_checkpointing:
            self._said.setdefault("gradient_checkpointing", True)
        if self.model.source is not None:
            self._options("text-classification")  # what does not fit is told now, not after the data was read

    def fit(self, train: Dataset, validation: Dataset | None = None, *, resume: bool = True) -> Model:
        """Train the model; it then is the one with the best weights. Gives it back.

        `validation` chooses them; None: a share of `train`, as large as in the shipped `process.split`. With `work`,
        a run that was cut short goes on to the weights that it was on the way to; `resume=False` starts again.
        A model that was loaded learns on from its weights, over the same labels.
        Raises LnmtError where there is nothing to learn from.
        """
        if validation is None:
            shares = shipped_params().process.split
            share = shares.validation / (shares.train + shares.validation)
            train, validation, _ = train.split(1 - share, share, 0.0)
        _check_alike(train, validation)
        home = self.model.new_home()
        work = self.work or home / "work"
        if not resume:
            shutil.rmtree(work, ignore_errors=True)
        self.model.take(self._train(train, validation, work, home))
        return self.model

    def evaluate(self, dataset: Dataset) -> dict[str, float]:
        """The task's metrics on labelled rows, by name, such as accuracy and macro_f1; see `lnmt.metrics`.

        The rows are taken as they are, then go through the processors that the model keeps.
        """
        from lnmt.api.evaluating import evaluate

        return evaluate(self.model.predictor(), dataset)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """`Model.predict`."""
        return self.model.predict(texts)

    def _options(self, task: Any) -> TrainParams:
        source = self.model.source
        if source is None:  # a bundle: its weights take the place of pretrained ones
            bundle = self.model.trained
            said = {"max_tokens": bundle.manifest.max_tokens, **self._said}
            name = str(bundle.manifest.model["name"])
            return train_params(said, model=Plugin(name=name), encoder=f"local:{bundle.path}", digest=None)
        reference, digest = source.pretrained()
        return train_params(self._said, model=source.plugin(task), encoder=reference, digest=digest)

    def _train(self, train: Dataset, validation: Dataset, work: Path, home: Path) -> Any:
        from lnmt.bundles import Bundle, new_bundle
        from lnmt.files import clear_disk_errors
        from lnmt.models import WEIGHTS
        from lnmt.training.fit import draft_of, fit

        options = self._options(train.task)
        options = options.model_copy(update={"metric": metric_of(self._said, options, train.task)})
        progress = Progress()
        with clear_disk_errors(work):
            data = self._data(options, train, validation, work, progress)
            fitted = fit(
                options,
                data,
                work=work / "run",
                logs=work / "logs",
                progress=progress,
                plugins=self._plugins(options, train),
                callbacks={f"{type(one).__name__}-{place}": one for place, one in enumerate(self._objects)},
            )
            lineage = lineage_here(options.model_dump(mode="json"), data.train.digest)
            with new_bundle(home / "bundle", draft_of(fitted, options, data, train.processors, lineage)) as place:
                fitted.model.save(place / WEIGHTS)
                shutil.copyfile(data.encoder / "tokenizer.json", place / "tokenizer.json")
        shutil.rmtree(work / "run", ignore_errors=True)  # done: the next call is another run
        return Bundle.open(home / "bundle")

    def _data(
        self, options: TrainParams, train: Dataset, validation: Dataset, work: Path, progress: Progress
    ) -> TrainingData:
        """The rows as the engine takes them: written below `work`, where their tokens are kept by digest."""
        from lnmt.data.batches import load_examples
        from lnmt.text.tokenizer import Tokenizer
        from lnmt.training.prepare import TrainingData

        source = self.model.source
        start = self.model.trained if source is None else None
        encoder = source.fetch(progress) if source is not None else self.model.trained.path
        tokenizer = Tokenizer(encoder / "tokenizer.json", options.max_tokens)
        examples = []
        for name, rows in (("train", train), ("validation", validation)):
            shutil.rmtree(work / "data" / name, ignore_errors=True)
            rows.write(work / "data" / name)
            examples.append(
                load_examples(
                    work / "data" / name, train.task, train.labels, tokenizer, progress, cache=work / "tokens"
                )
            )
        return TrainingData(
            train.task, train.labels, examples[0], examples[1], tokenizer, encoder, work / "data", start
        )

    def _plugins(self, options: TrainParams, train: Dataset) -> list[str]:
        """The modules of the plugins that take part: a checkpoint of other code is another run."""
        from lnmt.models import MODELS
        from lnmt.text.processors import PROCESSORS
        from lnmt.training.callbacks import CALLBACKS
        from lnmt.training.optimizers import OPTIMIZERS

        used: list[object] = [
            MODELS.get(options.model.name),
            OPTIMIZERS.get(options.optimizer.name, where="lnmt.Trainer: optimizer"),
            *(CALLBACKS.get(one.name, where="lnmt.Trainer: callbacks") for one in options.callbacks),
            *(PROCESSORS.get(one.name) for one in train.processors),
            *map(type, self._objects),
        ]
        modules = {str(getattr(one, "__module__", "")) for one in used}
        return sorted(name for name in modules if name in sys.modules and not name.startswith("lnmt."))


def _check_alike(train: Dataset, validation: Dataset) -> None:
    """Raise LnmtError where the two are not of one kind."""
    for what in ("task", "processors"):
        one, other = getattr(train, what), getattr(validation, what)
        if one != other:
            raise LnmtError(
                f"train and validation have not the same {what}",
                where="Trainer.fit",
                value=f"{one} and {other}",
                fix="make both in one way: train, validation, test = dataset.split()",
            )
    unknown = sorted(set(validation.labels) - set(train.labels))
    if unknown:
        raise LnmtError(
            "validation has labels that train lacks",
            where="Trainer.fit",
            value=", ".join(unknown),
            allowed=", ".join(train.labels),
            fix="give both the whole label set: Dataset.from_csv(…, labels=[…])",
        )


def _is_callback(one: object) -> bool:
    if isinstance(one, str | dict):
        return False
    from lnmt.training.callbacks import Callback

    return isinstance(one, Callback)
