"""`reports/validation/index.html`: one file that needs nothing else, drawn from result.json's value."""

from __future__ import annotations

from typing import Any


def render_page(result: dict[str, Any]) -> str:
    """The page of a result (`lnmt.data.validation.result`). Every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lnmt.data.validation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["number"] = lambda number: f"{number:.4g}"
    environment.filters["share"] = lambda part, whole: f"{part / whole if whole else 0:.1%}"
    return environment.get_template("page.html.j2").render({"rows": None, **result})
