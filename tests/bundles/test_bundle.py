from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lnmt.bundles import Bundle, Draft, new_bundle
from lnmt.errors import DigestMismatch, LnmtError
from lnmt.files import sha256_bytes, sha256_file
from tests.bundles.conftest import DRAFT, make_bundle


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle.path / "bundle.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def test_what_was_written_is_opened(bundle: Bundle) -> None:
    assert bundle.manifest.labels == ["no", "yes"]
    assert bundle.manifest.files == {
        "model.bin": sha256_bytes(b"\x00\x01weights"),
        "parts/tokenizer.json": sha256_bytes(b"{}"),
    }
    assert bundle.digest == sha256_file(bundle.path / "bundle.json")
    assert bundle.file("model.bin").read_bytes() == b"\x00\x01weights"
    assert Bundle.open(bundle.path, expect=bundle.digest) == bundle


def test_the_same_content_has_the_same_digest(bundle: Bundle, tmp_path: Path) -> None:
    assert make_bundle(tmp_path / "again").digest == bundle.digest


def test_an_unknown_file_is_told_with_those_there_are(bundle: Bundle) -> None:
    with pytest.raises(LnmtError, match=r"has no file 'model.onnx'(?s:.*)model.bin, parts/tokenizer.json"):
        bundle.file("model.onnx")


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="not a bundle"):
        Bundle.open(tmp_path)


def test_another_digest_than_expected(bundle: Bundle) -> None:
    with pytest.raises(DigestMismatch, match=bundle.digest):
        Bundle.open(bundle.path, expect="sha256:" + "0" * 64)


def test_one_byte_differs(bundle: Bundle) -> None:
    (bundle.path / "model.bin").write_bytes(b"\x00\x02weights")
    with pytest.raises(DigestMismatch, match=r"model\.bin"):
        Bundle.open(bundle.path)


def test_a_file_is_gone(bundle: Bundle) -> None:
    (bundle.path / "model.bin").unlink()
    with pytest.raises(DigestMismatch, match="absent"):
        Bundle.open(bundle.path)


def test_a_file_too_many(bundle: Bundle) -> None:
    (bundle.path / "extra.txt").write_text("x")
    with pytest.raises(DigestMismatch, match="no such file"):
        Bundle.open(bundle.path)


def test_a_foreign_format(bundle: Bundle) -> None:
    rewrite(bundle, lambda raw: raw.update(format=99))
    with pytest.raises(LnmtError, match=r"unknown bundle format(?s:.*)value: 99(?s:.*)allowed: 1"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(("text", "match"), [("{", "not JSON"), ("[1]", "unknown bundle format"), ("\xff", "not JSON")])
def test_a_broken_bundle_json(bundle: Bundle, text: str, match: str) -> None:
    (bundle.path / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LnmtError, match=match):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("labels", ["yes", "yes"]),
        ("labels", ["yes"]),
        ("temperature", 0.0),
        ("max_tokens", 0),
        ("pad_multiple", 0),
        ("precision", "int3"),
        ("files", {}),
        ("surprise", 1),
    ],
)
def test_a_field_that_does_not_fit_is_named(bundle: Bundle, field: str, value: object) -> None:
    rewrite(bundle, lambda raw: raw.update({field: value}))
    with pytest.raises(LnmtError, match=rf"bundle\.json does not fit: {field}"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("task", "labels", "problem"),
    [
        ("text-classification", ["one"], "needs at least 2 labels"),
        ("multi-label-classification", ["one"], None),
        ("multi-label-classification", [], "needs at least 1 label"),
        ("token-classification", ["O"], "needs at least 2 labels"),
        ("token-classification", ["O", "B-X"], None),
        ("text-regression", [], None),
        ("text-regression", ["low", "high"], "text-regression has no labels"),
        ("text-generation", [], None),
        ("text-generation", ["a", "b"], "text-generation has no labels"),
        ("multi-label-classification", ["a", "a"], "must differ from each other"),
    ],
)
def test_labels_fit_the_task(bundle: Bundle, task: str, labels: list[str], problem: str | None) -> None:
    rewrite(bundle, lambda raw: raw.update(task=task, labels=labels))
    if problem is None:
        assert Bundle.open(bundle.path).manifest.labels == labels
    else:
        with pytest.raises(LnmtError, match=rf"does not fit: labels: .*{problem}"):
            Bundle.open(bundle.path)


def test_an_unknown_task_is_told_before_its_labels(bundle: Bundle) -> None:
    rewrite(bundle, lambda raw: raw.update(task="translation"))
    with pytest.raises(LnmtError, match=r"does not fit: task: .*'text-generation'"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../b", "a\\b", "./a", "a//b", ".", ""])
def test_names_that_could_leave_the_bundle_are_refused(bundle: Bundle, name: str) -> None:
    digest = "sha256:" + "0" * 64
    rewrite(bundle, lambda raw: raw["files"].update({name: digest}))
    with pytest.raises(LnmtError, match="no plain relative path"):
        Bundle.open(bundle.path)


def test_a_digest_must_look_like_one(bundle: Bundle) -> None:
    rewrite(bundle, lambda raw: raw["files"].update({"model.bin": "md5:1"}))
    with pytest.raises(LnmtError, match="should match pattern"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".PTH", ".joblib", ".py", ".npy"])
def test_formats_that_run_code_are_refused(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    (bundle.path / f"model{suffix}").write_bytes(b"x")
    with pytest.raises(LnmtError, match="no pickles and no code"):
        Bundle.open(bundle.path)
    with pytest.raises(LnmtError, match="no pickles and no code"), new_bundle(tmp_path / "new", DRAFT) as directory:
        (directory / f"model{suffix}").write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("target", ["/etc/hostname", "model.bin"])
def test_links_are_refused(bundle: Bundle, target: str) -> None:
    (bundle.path / "link").symlink_to(target)
    with pytest.raises(LnmtError, match="no links"):
        Bundle.open(bundle.path)


def test_a_link_in_the_place_of_a_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "model.bin").rename(tmp_path / "elsewhere")
    (bundle.path / "model.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LnmtError, match="no links"):
        Bundle.open(bundle.path)


def test_a_pipe_is_refused_and_not_waited_for(bundle: Bundle) -> None:
    os.mkfifo(bundle.path / "pipe")
    with pytest.raises(LnmtError, match="no devices"):
        Bundle.open(bundle.path)


def test_an_empty_bundle_is_none(tmp_path: Path) -> None:
    with pytest.raises(LnmtError, match="cannot be a bundle: files"), new_bundle(tmp_path / "new", DRAFT):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_the_earlier_bundle(bundle: Bundle) -> None:
    def write() -> None:
        with new_bundle(bundle.path, DRAFT) as directory:
            (directory / "model.bin").write_bytes(b"new")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert Bundle.open(bundle.path).digest == bundle.digest
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_draft_is_not_a_manifest() -> None:
    assert "files" not in Draft.model_fields
