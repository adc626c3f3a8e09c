"""Where packages come from: pip's own configuration, so that mirrors, certificates and proxies need no second home."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname


@dataclass(frozen=True)
class PipConfig:
    """The options of pip that say where and how to download."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    trusted_hosts: tuple[str, ...]
    cert: str | None
    client_cert: str | None
    proxy: str | None
    timeout_s: float


def read_pip_config() -> PipConfig:
    """Ask the pip of this environment; where there is none, read its files and variables as it would."""
    # -P: a pip.py in the working directory is not pip.
    command = [sys.executable, "-P", "-m", "pip", "config", "list"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return choose(parse_list(answer.stdout))
    return choose([*read_files(config_files(os.environ)), *read_environment(os.environ)])


Option = tuple[str, str, str]  # section, name, value


def parse_list(output: str) -> list[Option]:
    """The lines of `pip config list`: `global.index-url='https://…'`."""
    options = []
    for line in output.splitlines():
        key, equals, value = line.partition("=")
        section, dot, name = key.rpartition(".")
        if equals and dot:
            options.append((section, name, str(ast.literal_eval(value))))
    return options


def config_files(environment: Mapping[str, str]) -> list[Path]:
    """The files that pip reads on POSIX, in its order, the strongest last."""
    if (named := environment.get("PIP_CONFIG_FILE")) == os.devnull:
        return []
    xdg = environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    home = Path(environment.get("HOME", "~")).expanduser()
    user = Path(environment.get("XDG_CONFIG_HOME", home / ".config"))
    files = [*(Path(directory) / "pip" / "pip.conf" for directory in xdg if directory), Path("/etc/pip.conf")]
    files += [home / ".pip" / "pip.conf", user / "pip" / "pip.conf", Path(sys.prefix) / "pip.conf"]
    return [*files, *([Path(named)] if named else [])]


def read_files(paths: Iterable[Path]) -> list[Option]:
    """The options of pip.conf files; later files are stronger."""
    options = []
    for path in paths:
        parser = configparser.RawConfigParser()
        parser.read(path, encoding="utf-8")
        options += [(section, name, value) for section in parser.sections() for name, value in parser.items(section)]
    return [(section, name.replace("_", "-"), value) for section, name, value in options]


def read_environment(environment: Mapping[str, str]) -> list[Option]:
    """PIP_INDEX_URL and its kin."""
    return [
        (":env:", name.removeprefix("PIP_").lower().replace("_", "-"), value)
        for name, value in sorted(environment.items())
        if name.startswith("PIP_") and value
    ]


def choose(options: Iterable[Option]) -> PipConfig:
    """Merge as `pip download` does: its section beats [global], the environment beats both."""
    merged: dict[str, str] = {}
    listed = list(options)
    for section in ("global", "install", "download", ":env:"):
        merged.update({name: value for where, name, value in listed if where == section})
    no_index = merged.get("no-index", "").lower() in {"1", "true", "yes", "on"}
    index = [merged.get("index-url") or default_index(), *merged.get("extra-index-url", "").split()]
    return PipConfig(
        index_urls=() if no_index else tuple(_present(index)),
        find_links=tuple(_present(merged.get("find-links", "").split())),
        trusted_hosts=tuple(merged.get("trusted-host", "").split()),
        cert=merged.get("cert") or None,
        client_cert=merged.get("client-cert") or None,
        proxy=merged.get("proxy") or None,
        timeout_s=float(merged.get("timeout", merged.get("default-timeout", "15"))),
    )


def default_index() -> str:
    """The public index, as the client library knows it."""
    from unearth import PackageFinder

    return str(PackageFinder().sources[0]["url"])


def _present(locations: Iterable[str]) -> list[str]:
    """Without the files and directories that do not exist: pip passes over them too."""
    kept = []
    for location in locations:
        parsed = urlparse(location)
        path = url2pathname(parsed.path) if parsed.scheme == "file" else location
        if parsed.scheme not in {"", "file"} or Path(path).expanduser().exists():
            kept.append(location)
    return kept
