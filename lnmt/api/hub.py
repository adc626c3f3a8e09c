"""`lnmt.ModelHub`: the models that can be had, here and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lnmt.api.places import open_bundle, registered, settings_here, shipped_params
from lnmt.api.source import as_reference
from lnmt.bundles import BundleStore
from lnmt.bundles.store import DIGEST
from lnmt.errors import LnmtError
from lnmt.files import read_json
from lnmt.hub import fetch, find_model
from lnmt.progress import Progress
from lnmt.settings import Settings


class ModelHub:
    """Pretrained models by reference, and the project's own trained ones.

    References are those of `lnmt.Model`: `pypi:NAME==VERSION`, `hf:OWNER/NAME[@REVISION]`, `local:PATH`, and a
    bare name of the Hugging Face hub. Models of the project (the one at or above the working directory): the
    name of a registered model, or the digest of a bundle in its store. LNMT_CACHE and LNMT_STATE say where
    things are kept.

    >>> hub = ModelHub()
    >>> [model["source"] for model in hub.list_models()][:1]
    ['shipped']
    >>> hub.download("local:encoder").name
    'encoder'
    >>> hub.info("local:encoder")["family"]
    'bert'
    """

    def __init__(self) -> None:
        self._settings: Settings = settings_here()

    def list_models(self) -> list[dict[str, Any]]:
        """What is known without asking anybody: {"name", "source", "digest", "here"} of each.

        `source`: shipped (the default of params.yaml), cache (fetched before), registered or store (of the project);
        `here`: whether it needs no download.
        """
        shipped = shipped_params().train
        cached = self._cached()
        found = [_known(shipped.encoder, "shipped", shipped.digest, shipped.encoder in cached)]
        found += [_known(name, "cache", digest, True) for name, digest in cached.items() if name != shipped.encoder]
        found += [_known(name, "registered", digest, True) for name, digest in registered(self._settings).items()]
        store = BundleStore(self._settings.bundles_dir)
        return found + [_known(digest, "store", digest, True) for digest in store.digests()]

    def download(self, ref: str, *, digest: str | None = None) -> Path:
        """The verified directory of a model, from the cache, the store or its hub.

        Raises LnmtError where it is not here and LNMT_OFFLINE is set, Transient where the hub cannot be reached.
        """
        if self._is_ours(ref):
            return open_bundle(ref).path
        settings = self._settings
        reference = as_reference(ref)
        digest = digest or self._promised(reference)
        return find_model(
            fetch(
                reference,
                digest=digest,
                cache=settings.cache,
                progress=Progress(),
                offline=settings.offline,
                root=Path.cwd(),
            )
        )

    def info(self, ref: str) -> dict[str, Any]:
        """What is known of a model that is here. Nothing is downloaded: raises LnmtError for one that is not here.

        Of a pretrained one: name, path, its family and sizes as its config.json tells. Of a bundle: name, path, digest,
        task, labels, engine, precision, evidence.
        """
        if self._is_ours(ref) or (Path(ref) / "bundle.json").is_file():
            bundle = open_bundle(ref)
            told = bundle.manifest.model_dump(mode="json")
            wanted = ("task", "labels", "engine", "precision", "max_tokens", "parent", "evidence")
            return {"name": ref, "path": bundle.path, "digest": bundle.digest, **{key: told[key] for key in wanted}}
        reference = as_reference(ref)
        if not reference.startswith("local:") and reference not in self._cached():
            raise LnmtError(
                "not here",
                where=self._settings.cache,
                value=reference,
                allowed=", ".join(model["name"] for model in self.list_models() if model["here"]),
                fix="fetch it first: lnmt.ModelHub().download(…)",
            )
        path = self.download(ref)
        config = read_json(path / "config.json")
        sizes = {name: config[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers") if name in config}
        return {"name": reference, "path": path, "family": config.get("model_type"), **sizes}

    def _is_ours(self, ref: str) -> bool:
        if DIGEST.fullmatch(ref):
            return True
        # Asking the registry takes seconds where MLflow is used: references need not.
        return not set(ref) & set(":/") and ref in registered(self._settings)

    def _promised(self, reference: str) -> str | None:
        """The digest that a reference was fetched with, or is shipped with; None where none was asked for."""
        shipped = shipped_params().train
        if reference == shipped.encoder:
            return shipped.digest
        digest = self._cached().get(reference)
        kept_by_it = digest is not None and (self._settings.cache / "hub" / digest.removeprefix("sha256:")).is_dir()
        return digest if kept_by_it else None

    def _cached(self) -> dict[str, str]:
        """Reference → digest of the models in the cache; data sets and what is half there are left out."""
        found = {}
        for record in sorted((self._settings.cache / "hub").glob("*/entry.json")):
            entry = read_json(record)
            if any(name.endswith("model.safetensors") for name in entry["files"]):
                found[str(entry["reference"])] = str(entry["digest"])
        return found


def _known(name: str, source: str, digest: str | None, here: bool) -> dict[str, Any]:
    return {"name": name, "source": source, "digest": digest, "here": here}
