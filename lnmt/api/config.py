"""`lnmt.Config`: a `params.yaml` in Python."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lnmt.api.places import shipped_file
from lnmt.errors import LnmtError, UnknownName
from lnmt.files import write_bytes
from lnmt.params import Params, parse_params


class Config:
    """The parameters of a project: read, changed, checked and written, comments kept.

    `Config()` holds what ships with LNMT. Every change is checked against the schema at once; one
    that does not fit is refused and changes nothing.

    >>> config = Config.from_yaml("params.yaml")
    >>> config.update({"train.epochs": 3}, train={"batch_size": 64})["train.epochs"]
    3
    >>> config.params.train.batch_size
    64
    >>> config.save("params.yaml")
    """

    def __init__(self) -> None:
        self._read(shipped_file())

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """The parameters in a file. Raises LnmtError where it is absent, no YAML, or does not fit the schema."""
        config = cls.__new__(cls)
        config._read(Path(path))
        return config

    @property
    def params(self) -> Params:
        """The parameters as types."""
        return self._params

    def __getitem__(self, name: str) -> Any:
        """The value at a dotted name, `train.optimizer.lr`: sections as dicts. Raises UnknownName."""
        value: Any = self._params.model_dump(mode="json")
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                known = value if isinstance(value, dict) else ()
                raise UnknownName("parameter", part, known, where=name)
            value = value[part]
        return value

    def update(self, changes: Mapping[str, Any] | None = None, /, **sections: Any) -> Self:
        """Change values in place: dotted names, or nested dicts whose other keys stay; gives itself back.

        Raises LnmtError with the place, and the nearest known name, for what does not fit the schema.
        """
        text = self.text()
        document = _load(text, self._where)
        for name, value in {**(changes or {}), **sections}.items():
            _put(document, name.split("."), value, self._where)
        try:
            self._params = parse_params(_plain(document), where=self._where)
        except LnmtError:
            self._document = _load(text, self._where)
            raise
        self._document = document
        return self

    def text(self) -> str:
        """The YAML, as `save` writes it."""
        out = io.StringIO()
        _yaml().dump(self._document, out)
        return out.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the file; a reader sees the old one or the new one, never a part."""
        write_bytes(Path(path), self.text().encode())

    def _read(self, path: Path) -> None:
        from lnmt.params import load_params

        self._where = path
        self._params = load_params(path)
        self._document = _load(path.read_text(encoding="utf-8"), path)


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda one, _: one.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def _load(text: str, where: Path) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml().load(text)
    except YAMLError as error:  # such as a key that stands twice, which other readers let pass
        raise LnmtError(f"params.yaml is not YAML: {error}", where=where, fix="mend the line that is named") from error


def _put(document: Any, path: list[str], value: Any, where: Path) -> None:
    """Set a value, making nothing on the way: a name that is not there is refused by the schema, or here."""
    *sections, last = path
    for name in sections:
        if not isinstance(document, dict) or not isinstance(document.get(name), dict):
            known = document if isinstance(document, dict) else ()
            raise UnknownName("section", name, (key for key in known if isinstance(known[key], dict)), where=where)
        document = document[name]
    if isinstance(value, Mapping) and isinstance(document.get(last), dict) and "name" not in value:
        for key, inner in value.items():
            _put(document[last], [key], inner, where)
    else:
        document[last] = dict(value) if isinstance(value, Mapping) else value


def _plain(document: Any) -> Any:
    import yaml

    out = io.StringIO()
    _yaml().dump(document, out)
    return yaml.safe_load(out.getvalue())
