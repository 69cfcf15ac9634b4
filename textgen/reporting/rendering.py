"""Fills in the templates of the report and the model card."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_template(name: str, filters: Mapping[str, Callable[..., Any]], /, **values: Any) -> str:
    """The text of a template. A value that it uses must be given.

    Args:
        name: file in ``templates/``. In HTML, values are escaped, unless they are ``Markup``.
        filters: functions that the template applies to values, by name.
        values: what the template shows, by name.
    """
    environment = Environment(
        loader=PackageLoader("textgen.reporting"),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name).render(values)
