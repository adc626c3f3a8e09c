"""`lnmt init`, in process: real git, real DVC, real files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from lnmt.cli import run
from lnmt.params import FilesSource, load_params
from lnmt.settings import load_settings

ROWS = [("Where is my card?", "card"), ("I lost my card", "card"), ("Send money abroad", "transfer"), ("Hi", "other")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "intents.csv"
    path.write_text("utterance;intent\n" + "".join(f'"{text}";{label}\n' for text, label in ROWS * 50))
    return path


def test_a_csv_becomes_a_project(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "My Intents"
    assert run(["init", str(project), "--data", str(table), "--yes", "--store-text", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == {"card": 100, "other": 50, "transfer": 50}
    assert told["name"] == "my-intents"

    params = load_params(project / "params.yaml")
    source = params.ingest.sources[0]
    assert isinstance(source, FilesSource)
    assert (source.base, source.bins, source.files[0].path) == (None, None, "data/source/intents.csv")
    assert (source.columns.text, source.columns.label, source.columns.id) == ("utterance", "intent", None)
    assert source.csv is not None
    assert source.csv.delimiter == ";"
    assert params.validate.labels == ["card", "other", "transfer"]
    assert params.validate.min_rows == 100
    assert params.evaluate.baselines == ["majority", "tfidf"]
    assert params.evaluate.slices == ["length", "label"]
    assert [(gate.above, gate.at_least) for gate in params.gate] == [("majority", None), ("tfidf", None)]
    assert params.process.holdout == {}
    assert "# the label set" in (project / "params.yaml").read_text()

    ingest = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["ingest"]
    assert ingest["deps"] == ["data/incoming", "data/source/intents.csv"]
    assert (project / "data/source/intents.csv.dvc").is_file()
    tracked = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert tracked.split() == [
        ".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "data/incoming/.gitkeep",
        "data/production/.gitkeep", "data/source/.gitignore", "data/source/intents.csv.dvc",
        "dvc.yaml", "params.yaml", "prefect.yaml",
    ]  # fmt: skip
    status = subprocess.run(["git", "status", "--short"], cwd=project, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    assert load_settings(project).store_text is True


def test_the_demos_project_is_the_shipped_file(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path / "demo"), "--profile", "demo", "--yes"]) == 0
    assert (tmp_path / "demo/params.yaml").read_text() == (repository / "params.yaml").read_text()
    assert "lnmt run" in capsys.readouterr().out
    assert load_settings(tmp_path / "demo").store_text is False


def test_the_tiny_project_is_an_edit_of_it(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "tiny"), "--profile", "tiny", "--yes"]) == 0
    params = load_params(tmp_path / "tiny/params.yaml")
    assert params.ingest.limit == 150
    assert params.train.max_steps == 8
    assert params.process.holdout == {"domain": ["tweet"]}


def test_own_data_and_tiny_limits_go_together(table: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(table), "--slice", "intent", "--name", "bank", "--profile", "tiny", "--yes"]
    assert run(["init", str(tmp_path / "x"), *arguments]) == 0
    params = load_params(tmp_path / "x/params.yaml")
    assert (params.name, params.ingest.slices, params.train.max_steps) == ("bank", ["intent"], 8)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("text,label\na,x\nb,y\n", ["--text", "texts"], "did you mean 'text'?"),
        ("words,kind\na,x\nb,y\n", [], "not told: Column of texts (words, kind)"),
        ("text,label\na,x\nb,x\n", [], "at least two labels"),
        ("text,label\n" + "".join(f"a,l{n}\n" for n in range(300)), [], "more than 200 different labels"),
        ("", [], "the file is empty"),
        ("text,label\na,x\nb\n", [], "line 3"),
    ],
)
def test_what_cannot_become_a_project_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, arguments: list[str], message: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content)
    assert run(["init", str(tmp_path / "x"), "--data", str(path), "--yes", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_bytes_of_another_encoding_are_told_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("text,label\nschön,x\nnein,y\n".encode("latin-1"))
    assert run(["init", str(tmp_path / "x"), "--data", str(path), "--yes"]) == 1
    assert "utf-8" in capsys.readouterr().err
    assert run(["init", str(tmp_path / "x"), "--data", str(path), "--yes", "--encoding", "latin-1"]) == 0


def test_a_project_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text("name: mine\n")
    assert run(["init", str(tmp_path), "--profile", "demo", "--yes"]) == 1
    assert "there is a project already" in capsys.readouterr().err
    assert (tmp_path / "params.yaml").read_text() == "name: mine\n"


def test_without_a_file_and_a_terminal_the_flag_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "x"), "--yes"]) == 1
    assert "--data" in capsys.readouterr().err


def test_doctor_finds_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["init", str(tmp_path / "x"), "--profile", "tiny", "--yes"]) == 0
    capsys.readouterr()
    assert run(["doctor", "--project", str(tmp_path / "x"), "--json"]) == 0
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["dvc.yaml"] == {"state": "ok", "what": "dvc.yaml", "found": "7 stages", "fix": None}

    text = (tmp_path / "x/dvc.yaml").read_text()
    (tmp_path / "x/dvc.yaml").write_text(text.replace("    - data/incoming\n", ""))
    monkeypatch.setenv("LNMT_PROT", "1")
    assert run(["doctor", "--project", str(tmp_path / "x"), "--json"]) == 1
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["dvc.yaml"]["found"] == "ingest lacks the dependency data/incoming"
    assert findings["LNMT_PROT"]["fix"] == "did you mean LNMT_PORT?"
