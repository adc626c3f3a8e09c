"""One file over HTTP, resumed where it was cut off."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lnmt.errors import DigestMismatch, Transient
from lnmt.files import sha256_file
from lnmt.hub.pip_config import PipConfig
from lnmt.progress import Progress

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 4
WAIT_S = 0.25  # before the second attempt twice as long, and so on


def client_of(config: PipConfig) -> httpx2.Client:
    """A client with pip's certificates, proxy, timeouts, trusted hosts and logins; it also reads file: addresses."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers.sync import PyPIClient

    client = PyPIClient(
        trusted_hosts=config.trusted_hosts,
        verify=ssl.create_default_context(cafile=config.cert) if config.cert else True,
        cert=config.client_cert,
        proxy=config.proxy,
        timeout=config.timeout_s,
        follow_redirects=True,
        event_hooks={"response": [_raise_if_busy]},
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=list(config.index_urls))
    return client


def _raise_if_busy(response: httpx2.Response) -> None:
    """A busy or broken server has not said that a package does not exist."""
    if response.status_code == 429 or response.status_code >= 500:
        response.raise_for_status()


def download(
    client: httpx2.Client, url: str, address: str, target: Path, *, digest: str | None, progress: Progress
) -> Path:
    """Fetch `url` into `target` through `target` + `.part`, which a later call goes on with; the digest is checked.

    `address` is the URL as it may be shown. Raises DigestMismatch (the file is removed) or Transient.
    """
    import httpx2

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    problem: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(WAIT_S * 2**attempt)
        resumed = partial.exists() and partial.stat().st_size > 0
        try:
            _append(client, url, partial, progress, target.name)
        except httpx2.HTTPError as error:
            problem = error
            continue
        found = sha256_file(partial)
        if digest is None or found == digest:
            partial.replace(target)
            return target
        partial.unlink()
        if not resumed:
            raise DigestMismatch(
                address, expected=digest, found=found, fix="do not use this file; check the index and the digest"
            )
    raise Transient(
        f"the download failed {ATTEMPTS} times: {problem or 'what was resumed did not fit together'}",
        where=address,
        fix="check the network and run the same command again: it goes on where it stopped",
    )


def _append(client: httpx2.Client, url: str, partial: Path, progress: Progress, name: str) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # nothing after `have`: it was whole already, or another file
            return
        response.raise_for_status()
        goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        length = response.headers.get("Content-Length")
        total = int(length) + (have if goes_on else 0) if length else None
        with partial.open("ab" if goes_on else "wb") as file, progress.bar(f"download {name}", total, "B") as bar:
            if goes_on:
                bar.advance(have)
            for block in response.iter_raw():  # as it comes: what was received before a break is kept
                file.write(block)
                bar.advance(len(block))
