from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnmt import Dataset, Model
from lnmt.api.source import as_reference
from lnmt.bundles import Bundle, BundleStore
from lnmt.errors import DigestMismatch, LnmtError, UnknownName
from lnmt.files import file_digests
from lnmt.params import load_params
from lnmt.plugins import register_model
from lnmt.rollout.deployment import Deployment
from lnmt.rollout.table import DeploymentStore
from lnmt.runtime.predictor import Predictor
from lnmt.settings import Settings
from lnmt.types import Prediction, TextPrediction

TEXTS = ["a good film", "an awful book", "a good film", "the plot is bad"]


def test_it_answers_as_its_bundle_does(here: Path) -> None:
    model = Model.load("models/mood")
    expected = Predictor.open(Bundle.open(here / "models/mood"), threads=1).predict(TEXTS)
    found = model.predict(TEXTS)
    assert [one.label for one in found] == [one.label for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    assert (model.task, model.labels) == ("text-classification", ("negative", "positive"))
    alone = model.predict(TEXTS[0])
    assert isinstance(alone, Prediction)
    assert (alone.label, model.predict([])) == (found[0].label, [])


def test_a_text_that_is_none_is_told(here: Path) -> None:
    with pytest.raises(LnmtError, match="a text is a string") as caught:
        Model.load("models/mood").predict(["a", 3])  # type: ignore[list-item]
    assert (caught.value.where, caught.value.value) == ("predict, text 1", "3")


def test_saving_writes_the_bundle_itself(here: Path) -> None:
    model = Model.load("models/mood")
    assert file_digests(model.save("copy")) == file_digests(here / "models/mood")
    model.save("copy")  # again: replaced
    assert Model("copy").labels == model.labels


def test_saving_overwrites_nothing_else(here: Path) -> None:
    model = Model.load("models/mood")
    for place in (here / "encoder", here / "reviews.csv"):
        before = file_digests(here)
        with pytest.raises(LnmtError, match="something else is there"):
            model.save(place)
        assert file_digests(here) == before
    (here / "empty").mkdir()
    assert Bundle.open(model.save("empty")).digest == model.trained.digest


def test_an_untrained_model_does_not_answer(here: Path) -> None:
    model = Model("local:encoder")
    for ask in (lambda: model.predict("a"), lambda: model.save("x"), lambda: model.task):
        with pytest.raises(LnmtError, match="has not been trained"):
            ask()
    assert repr(model) == "<lnmt.Model 'local:encoder': not trained>"


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("bert-large-uncased", "hf:bert-large-uncased"),
        ("encoder", "local:encoder"),
        ("hf:owner/name@main", "hf:owner/name@main"),
        ("pypi:name==1.0", "pypi:name==1.0"),
    ],
)
def test_a_name_is_a_reference(here: Path, name: str, reference: str) -> None:
    assert as_reference(name) == reference
    source = Model(name).source
    assert source is not None
    assert source.pretrained() == (reference, None)
    assert source.plugin("token-classification").name == "token_classifier"


def test_an_unknown_scheme_is_told(here: Path) -> None:
    with pytest.raises(UnknownName, match="unknown hub scheme 'pipy'") as caught:
        Model("pipy:name==1.0")
    assert caught.value.fix == "did you mean 'pypi'?"
    with pytest.raises(UnknownName, match="unknown model 'encoder_clasifier'"):
        Model("encoder_clasifier", encoder="local:encoder")


def test_offline_a_bare_name_says_what_it_was_taken_for(here: Path) -> None:
    data = Dataset.from_csv("reviews.csv", text="review", label="mood")
    with pytest.raises(LnmtError, match="not in the cache, and LNMT is offline") as caught:
        Model("encoder_clasifier").train(data)
    assert caught.value.value == "hf:encoder_clasifier"
    assert "did you mean 'encoder_classifier'?" in caught.value.__notes__[0]


def test_an_architecture_takes_the_shipped_encoder(here: Path) -> None:
    source = Model("encoder_classifier", dropout=0.3).source
    assert source is not None
    shipped = load_params(here / "params.yaml").train
    assert source.pretrained() == (shipped.encoder, shipped.digest)
    assert source.plugin("text-classification").options == {"dropout": 0.3}
    with pytest.raises(LnmtError, match="starts from a pretrained one"):
        Model("causal_lm").generate(["a"])


def test_a_trained_model_takes_no_options(here: Path) -> None:
    with pytest.raises(LnmtError, match="a trained model takes no options") as caught:
        Model("models/mood", encoder="local:encoder", dropout=0.2)
    assert caught.value.value == "encoder, dropout"


def test_no_model_of_this_name_is_told(here: Path) -> None:
    with pytest.raises(UnknownName, match="unknown model 'mood'"):
        Model.load("mood")


@pytest.fixture
def project(here: Path) -> Settings:
    """`here` as a project whose store has the model, live under the name `mood`."""
    settings = Settings(project=here)
    digest = BundleStore(settings.bundles_dir).put(Bundle.open(here / "models/mood"))
    with DeploymentStore(settings.database_url) as deployments:
        deployments.swap(0, Deployment("mood", 0, "promoted", digest, None, 0.0, 0.0, "released"))
    return settings


def test_a_registered_name_and_a_digest_are_loaded_from_the_store(project: Settings) -> None:
    digest = Bundle.open(project.project / "models/mood").digest
    for name in ("mood", digest):
        model = Model.load(name)
        assert (model.name, model.trained.digest) == (name, digest)
        assert model.trained.path.parent == project.bundles_dir
    with pytest.raises(UnknownName) as caught:
        Model.load("moods")
    assert caught.value.fix == "did you mean 'mood'?"


def test_a_changed_file_is_refused(here: Path) -> None:
    (here / "models/mood/tokenizer.json").write_text("{}")
    with pytest.raises(DigestMismatch):
        Model.load("models/mood")


def test_the_cache_is_asked_first_and_forgotten_when_told(here: Path) -> None:
    model = Model.load("models/mood").enable_cache(ttl=60, max_size="1MB")
    first = model.predict(TEXTS)
    predictor = model.predictor()
    predictor.engine.close()  # from now on it cannot answer
    again = model.predict(TEXTS)
    for one, other in zip(first, again, strict=True):
        assert (one.label, one.scores, one.tokens) == (other.label, other.scores, other.tokens)
        assert np.array_equal(one.pooled, other.pooled)
    with pytest.raises(AssertionError, match="load first"):
        model.predict("another text")
    with pytest.raises(AssertionError, match="load first"):
        model.disable_cache().predict(TEXTS[0])


def test_equal_texts_are_asked_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.load("models/mood")
    asked: list[list[str]] = []
    predict = model.predictor().predict

    def note(texts: list[str], size: int) -> list[Any]:
        asked.append(texts)
        return predict(texts, size)

    monkeypatch.setattr(model.predictor(), "predict", note)
    assert len(model.predict(TEXTS)) == 4
    assert asked == [["a good film", "an awful book", "the plot is bad"]]


def test_compiled_it_answers_the_same(here: Path) -> None:
    torch._dynamo.reset()
    model = Model.load("models/mood")
    plain = model.predict(TEXTS)
    compiled = model.compile(mode="default").predict(TEXTS)
    assert [one.label for one in compiled] == [one.label for one in plain]
    for one, other in zip(compiled, plain, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    with pytest.raises(UnknownName, match="unknown mode") as caught:
        model.compile(mode="max-autotun")
    assert caught.value.fix == "did you mean 'max-autotune'?"


def test_gradient_checkpointing_is_refused_where_there_is_none(here: Path, custom_transformer: None) -> None:
    with pytest.raises(LnmtError, match="has no gradient checkpointing"):
        Model("my-custom-transformer").enable_gradient_checkpointing()
    assert Model("bert-large-uncased").enable_gradient_checkpointing().gradient_checkpointing


def test_a_language_model_writes_and_judges(here: Path) -> None:
    model = Model("causal_lm", encoder="local:language-model")
    first = model.generate(["anna visits", ""], max_new_tokens=5)
    assert model.generate(["anna visits", ""], max_new_tokens=5) == first
    drawn = [model.generate(["anna visits"], max_new_tokens=8, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    (judged,) = model.predict(["anna visits paris"])
    assert isinstance(judged, TextPrediction)
    assert judged.perplexity > 1
    again = Model.load(model.save("writer"))
    assert again.generate(["anna visits", ""], max_new_tokens=5) == first
    with pytest.raises(LnmtError, match="this model writes no text"):
        Model.load("models/mood").generate(["a"])


def test_a_plugin_registered_twice_is_refused(plugin_tables: None) -> None:
    from lnmt.core import BaseModel

    @register_model("mine")
    class One(BaseModel):
        pass

    with pytest.raises(LnmtError, match="model 'mine' is registered twice"):

        @register_model("mine")
        class Two(BaseModel):
            pass


def test_the_bundle_tells_where_it_comes_from(here: Path) -> None:
    manifest = json.loads((here / "models/mood/bundle.json").read_text())
    assert manifest["lineage"]["data"].startswith("sha256:")
    assert manifest["evidence"]["validation"]["macro_f1"] == 1.0
