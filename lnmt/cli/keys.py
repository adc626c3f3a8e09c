"""Commands about the service's API keys: create, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnmt.cli.output import AsJson, Project, show, table

if TYPE_CHECKING:
    from lnmt.security.table import Key


def create(
    role: Annotated[str, typer.Option(help="viewer, predictor, operator or admin: docs/how-to/secure.md.")],
    name: Annotated[str, typer.Option(help="Who or what will use it, for people.")],
    rate: Annotated[float | None, typer.Option(help="Requests per second of this key; default LNMT_RATE.")] = None,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key, and show it this once."""
    from lnmt.security.peppers import open_peppers
    from lnmt.security.roles import role_of
    from lnmt.security.table import KeyTable
    from lnmt.settings import load_settings

    wanted = role_of(role, where="--role")
    settings = load_settings(project)
    peppers = open_peppers(settings.pepper, settings.state_dir)
    with KeyTable(settings.database_url) as keys:
        key, plaintext = keys.add(name, wanted, peppers, rate_per_s=rate)
    if not as_json:  # beside standard output, which then holds the key alone
        typer.echo(f"key {key.id}, {key.role}, for {key.name}; it is not shown again:", err=True)
    show({**_as_json(key), "key": plaintext}, plaintext, as_json=as_json)


def list_keys(project: Project = None, as_json: AsJson = False) -> None:
    """List the API keys that were ever made, without their secrets."""
    from lnmt.security.table import KeyTable
    from lnmt.settings import load_settings

    with KeyTable(load_settings(project).database_url) as keys:
        found = keys.all()
    head = ("id", "name", "role", "rate", "created", "revoked")
    rows = [
        (key.id, key.name, key.role, _rate(key), _time(key.created) or "", _time(key.revoked) or "") for key in found
    ]
    lines = table(head, rows) if rows else ["there is no key: lnmt keys create --role predictor --name NAME"]
    show([_as_json(key) for key in found], lines, as_json=as_json)


def revoke(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The id of the key: lnmt keys list.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an API key; every worker refuses it within a second."""
    from lnmt.security.table import KeyTable
    from lnmt.settings import load_settings

    with KeyTable(load_settings(project).database_url) as keys:
        key = keys.revoke(identity)
    show(_as_json(key), f"key {key.id} of {key.name} is revoked since {_time(key.revoked)}", as_json=as_json)


def _as_json(key: Key) -> dict[str, Any]:
    """What programs may know of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "rate_per_s": key.rate_per_s,
        "created": _time(key.created),
        "revoked": _time(key.revoked),
    }


def _rate(key: Key) -> str:
    return "" if key.rate_per_s is None else f"{key.rate_per_s:g}/s"


def _time(seconds: float | None) -> str | None:
    """RFC 3339, UTC."""
    from datetime import UTC, datetime

    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
