"""`pypi:NAME==VERSION`: one file of a package index, downloaded alone and unpacked, never built and never run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.errors import DigestMismatch, LnmtError, Transient
from lnmt.files import sha256_file
from lnmt.hub.archives import unpack
from lnmt.hub.cache import add_entry, find_entry, key_of, locked
from lnmt.hub.download import client_of, download
from lnmt.hub.pip_config import PipConfig, read_pip_config
from lnmt.progress import Progress

if TYPE_CHECKING:
    import httpx2

    from lnmt.hub.fetch import Kind


@dataclass(frozen=True)
class PackageFile:
    """A file that the index offers."""

    name: str
    url: str
    address: str  # without credentials
    digest: str | None  # as the index tells it

    @property
    def kind(self) -> Kind:
        return "wheel" if self.name.endswith(".whl") else "sdist"


def fetch_pypi(
    name: str, *, digest: str | None, kind: Kind | None, cache: Path, progress: Progress, offline: bool
) -> Path:
    """The unpacked wheel, or the directory inside the source distribution."""
    reference = f"pypi:{name}"
    package, equals, version = name.partition("==")
    if not equals or not package.strip() or not version.strip() or set(version) & set("<>=!~,*; "):
        raise LnmtError(
            "a package needs one exact version", value=reference, allowed="pypi:NAME==VERSION", fix="pin the version"
        )
    key = key_of(f"{reference} {kind or ''}", digest)
    with locked(cache, key, progress):
        files = find_entry(cache, key, repair=not offline, progress=progress)
        if files is None:
            if offline:
                raise LnmtError(
                    "not in the cache, and LNMT is offline",
                    where=cache,
                    value=reference,
                    fix="unset LNMT_OFFLINE once, or name a local copy: local:PATH",
                )
            files = _fetch(reference, name, key, digest, kind, cache, progress)
    return _inside(files)


def _fetch(
    reference: str, name: str, key: str, digest: str | None, kind: Kind | None, cache: Path, progress: Progress
) -> Path:
    config = read_pip_config()
    with client_of(config) as client:
        file = find_file(reference, name, digest, kind, config, client)
        partial = cache / "hub" / "downloads" / key / file.name
        expected = digest or file.digest
        archive = download(client, file.url, file.address, partial, digest=expected, progress=progress)
    found = sha256_file(archive)
    if digest is None:
        progress.note(f"{reference} has no digest; found {found}: put it into params.yaml", digest=found)
    files = add_entry(cache, key, reference, found, lambda target: unpack(archive, target))
    shutil.rmtree(partial.parent)
    return files


def find_file(
    reference: str, name: str, digest: str | None, kind: Kind | None, config: PipConfig, client: httpx2.Client
) -> PackageFile:
    """The file whose digest is the promised one; without a digest the first of the wanted kind, wheels first.

    A place that does not answer is passed over while another one has the file. Raises Transient where one
    might have had it, DigestMismatch where only other files of this version exist, LnmtError where none does.
    """
    import httpx2

    offered: list[PackageFile] = []
    silent: list[str] = []
    for is_index, place in [*((False, link) for link in config.find_links), *((True, u) for u in config.index_urls)]:
        try:
            files = list(_ask(name, place, is_index, client))
        except httpx2.HTTPError as error:
            silent.append(f"{_redacted(place)}: {error}")
            continue
        for file in files:
            if digest is not None and file.digest == digest:
                return file
        offered += files
    wanted = [file for file in offered if kind in {None, file.kind}]
    if digest is not None:
        # An index may tell no digests; then the download itself is what is checked.
        wanted = [file for file in wanted if file.digest is None]
    if wanted:
        return min(wanted, key=lambda file: file.kind != "wheel")
    if silent:
        raise Transient(
            "no package index answers",
            where="; ".join(silent),
            value=reference,
            fix="check the network and `python -m pip config list`; or name a local copy: local:PATH",
        )
    if offered and digest is not None:
        raise DigestMismatch(
            reference,
            expected=digest,
            found=", ".join(f"{file.name} {file.digest}" for file in offered),
            fix="put the digest of the right file into params.yaml, once you trust it",
        )
    raise LnmtError(
        f"the package index has no {kind or 'file'} of this version",
        where=", ".join(map(_redacted, (*config.index_urls, *config.find_links))) or "no index is configured",
        value=reference,
        allowed=", ".join(file.name for file in offered) or None,
        fix="check the name and the version, and `python -m pip config list`",
    )


def _ask(name: str, place: str, is_index: bool, client: httpx2.Client) -> Iterator[PackageFile]:
    from packaging.requirements import InvalidRequirement
    from unearth import PackageFinder

    # It warns of every place that lacks the package, which is the normal case with several of them.
    logging.getLogger("unearth").setLevel(logging.ERROR)
    where = {"index_urls": [place]} if is_index else {"find_links": [place]}
    finder = PackageFinder(session=client, ignore_compatibility=True, **where)  # type: ignore[arg-type]
    try:
        packages = list(finder.find_matches(name))
    except InvalidRequirement as error:
        raise LnmtError(
            f"not a package and a version: {error}", value=name, allowed="pypi:NAME==VERSION", fix="mend the reference"
        ) from error
    for package in packages:
        digests = (package.link.hash_option or {}).get("sha256")
        local = sha256_file(package.link.file_path) if package.link.is_file and not digests else None
        yield PackageFile(
            name=package.link.filename,
            url=package.link.url_without_fragment,
            address=package.link.redacted,
            digest=f"sha256:{digests[0]}" if digests else local,
        )


def _redacted(place: str) -> str:
    from unearth.link import Link

    return Link(place).redacted


def _inside(files: Path) -> Path:
    """A source distribution holds one directory, `NAME-VERSION`; a wheel several."""
    entries = list(files.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else files
