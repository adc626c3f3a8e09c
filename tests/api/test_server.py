from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from lnmt import Dataset, InferenceServer, Model
from lnmt.client import Client
from lnmt.data import BaseProcessor
from lnmt.errors import LnmtError
from lnmt.monitoring.events import read_events
from lnmt.plugins import register_processor
from lnmt.serving.build import build_app
from lnmt.settings import Settings


def test_a_plugins_model_is_served_with_the_batches_asked_for(here: Path, custom_transformer: None) -> None:
    rows = Dataset.from_csv("reviews.csv", text="review", label="mood")
    model = Model("my-custom-transformer", encoder="local:encoder", width=16, blocks=1, heads=2)
    model.train(rows, epochs=1, precision="fp32", max_tokens=32)
    server = InferenceServer(model=model, max_batch_size=4, batch_timeout=10, dynamic_batching=True, directory="served")
    with pytest.raises(LnmtError, match="the server is not running"):
        server.url  # noqa: B018
    children = set(psutil.Process().children(recursive=True))
    url = server.start()
    try:
        assert server.start() == url
        with Client(url) as client:
            texts = rows.texts[:6]
            found = [answer.label for answer in client.predict(texts)]
        assert found == [answer.label for answer in model.predict(texts)]
        events = read_events(here / "served/.lnmt/events")
        assert [event.batch_rows for event in events].count(4) == 4  # and a batch of the two that are left
    finally:
        server.stop()
    server.stop()  # again: nothing
    assert set(psutil.Process().children(recursive=True)) <= children
    assert "lnmt_server_plugins" in (here / "served/params.yaml").read_text()


@pytest.mark.parametrize("said", [{"max_batch_size": 0}, {"batch_timeout": -1}, {"max_batch_size": True}])
def test_what_is_too_small_is_told(here: Path, said: dict[str, int]) -> None:
    with pytest.raises(LnmtError, match=f"{next(iter(said))} is too small"):
        InferenceServer(Model.load("models/mood"), **said)  # type: ignore[arg-type]


def test_an_untrained_model_and_another_task_are_refused(here: Path) -> None:
    with pytest.raises(LnmtError, match="has not been trained"):
        InferenceServer(Model("local:encoder")).start()
    writer = Model("causal_lm", encoder="local:language-model")
    writer.generate(["a"], max_new_tokens=1)
    with pytest.raises(LnmtError, match="does not answer"):
        InferenceServer(writer).start()


def test_a_plugin_of_the_script_itself_cannot_be_served(here: Path, plugin_tables: None) -> None:
    @register_processor("shout")
    class Shout(BaseProcessor):
        __module__ = "__main__"

        def process(self, data: str) -> str:
            return data.upper()

    rows = Dataset.from_csv("reviews.csv", text="review", label="mood").process("shout")
    model = Model("local:encoder").train(rows, precision="fp32", max_steps=1)
    with pytest.raises(LnmtError, match="a plugin that stands in the script itself cannot be served"):
        InferenceServer(model).start()


def test_the_service_takes_its_batch_size_from_the_settings(here: Path) -> None:
    assert Settings(project=here).max_batch_size == 32
    app = build_app(Settings(project=here, max_batch_size=4), here)
    assert app is not None
